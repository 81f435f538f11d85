"""Tokens a second of many small generate calls side by side, against one call with all of their rows, in one process.

Both run on the same engine, in alternating rounds, on prompts that it has not seen; the median of the rounds' ratios
counts.

    python benchmarks/generator_calls.py [--groups 64] [--samples 8] [--tokens 32] [--rounds 7]
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from generator import build_work, engine_config, read_work
from reporting import report

GOAL_RATIO = 0.95


def num_tokens(*tables: pa.Table) -> int:
    return sum(len(ids) for table in tables for ids in table.column("token_ids"))


def unseen(requests: pa.Table, mark: str) -> pa.Table:
    """The same rows with other beginnings, so that vLLM's prefix cache has none of them."""
    prompts = [f"{mark}, {row}: {prompt}" for row, prompt in enumerate(requests.column("prompt").to_pylist())]
    return requests.set_column(requests.column_names.index("prompt"), "prompt", pa.array(prompts))


def one_call(engine: Any, requests: pa.Table, sampling: Any, shelf: Any) -> int:
    return num_tokens(engine.generate(requests, sampling, shelf))


def many_calls(engine: Any, requests: pa.Table, sampling: Any, shelf: Any) -> int:
    """A call a group, all at once, as a controller makes them."""

    async def together() -> list[pa.Table]:
        calls = [engine.generate_async(requests.slice(row, 1), sampling, shelf) for row in range(requests.num_rows)]
        return await asyncio.gather(*calls)

    return num_tokens(*asyncio.run(together()))


def measure(folder: Path, tokens: int, rounds: int) -> list[dict[str, float]]:
    from residency.actors.engine_config import engine_environment

    config = engine_config()
    os.environ.update(engine_environment(config.threads))
    import pyarrow.feather as feather

    from residency.actors.engine_requests import MediaShelf
    from residency.actors.vllm_engine import VllmEngine
    from residency.platform.records import PolicyVersion
    from residency.platform.sampling import SamplingConfig

    engine = VllmEngine(folder / "student", config, version=PolicyVersion(incarnation=0, step=0), label="base")
    shelf = MediaShelf(feather.read_table(str(folder / "media.arrow")))
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=tokens)
    results: list[dict[str, float]] = []
    for seed in range(rounds + 1):
        rates: dict[str, float] = {}
        sides = [one_call, many_calls]
        for side in sides if seed % 2 else sides[::-1]:  # neither is always the first
            requests = unseen(read_work(folder, seed), f"{side.__name__} {seed}")
            started = time.perf_counter()
            rates[side.__name__] = side(engine, requests, sampling, shelf) / (time.perf_counter() - started)
        results.append(rates)
    engine.close()
    return results[1:]  # the first warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--groups", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        build_work(Path(name), arguments.groups, arguments.samples)
        results = measure(Path(name), arguments.tokens, arguments.rounds)
    ratio = statistics.median(rates["many_calls"] / rates["one_call"] for rates in results)
    report(
        "generator_calls",
        round(ratio, 3),
        "tokens/s of a call a group over tokens/s of one call",
        GOAL_RATIO,
        ratio >= GOAL_RATIO,
        {
            "tokens_per_second": [{side: round(rate) for side, rate in rates.items()} for rates in results],
            "work": {name: getattr(arguments, name) for name in ("groups", "samples", "tokens", "rounds")},
        },
    )


if __name__ == "__main__":
    main()
