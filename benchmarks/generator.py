"""Tokens a second of the generator actor, against vLLM's own offline ``LLM.generate`` on the same work.

Both serve the same tiny Qwen2.5-VL, prompts, images, seeds, bans, flags and logprobs, each in a process of its own;
their rounds alternate, so that a machine that slows down slows both. vLLM is measured as it comes (engine core in a
child process) and with its core in the caller's process, as the actor has it; the goal must hold against the faster.

    python benchmarks/generator.py [--prompts 64] [--samples 4] [--tokens 32] [--rounds 3]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from side_processes import Sides

GOAL_RATIO = 0.8
SIDES = ("actor", "offline", "offline_in_process")
NUM_IMAGES = 64
DEADLINE_SECONDS = 600
TEXTS = (
    "which side is the lesion on?\nChoose from: left, right.\n"
    "Think inside <think> </think>, then answer inside <answer> </answer>.",
    "<think>the lesion is on the left of the picture.</think><answer>left</answer>",
)
Round = Callable[[int], int]  # seed → tokens generated


def build_work(folder: Path, num_prompts: int, num_samples: int) -> None:
    """The student, its images and the request table, as files that every side reads."""
    from PIL import Image

    from residency.platform.media_store import MEDIA_SCHEMA, encode_png, media_hash
    from residency.training.student import build_student

    build_student(folder / "student", TEXTS, seed=0)
    pixels = np.random.default_rng(0).integers(0, 255, (NUM_IMAGES, 84, 84, 3), dtype=np.uint8)
    pngs = [encode_png(Image.fromarray(image)) for image in pixels]
    media = pa.Table.from_pylist([{"hash": media_hash(png), "png": png} for png in pngs], schema=MEDIA_SCHEMA)
    rows = [
        {"item_id": f"item{row}", "prompt": TEXTS[0], "media": [media_hash(pngs[row % NUM_IMAGES])]}
        | {"prompt_mode": "think", "num_samples": num_samples, "seed": 0}
        for row in range(num_prompts)
    ]
    import pyarrow.feather as feather

    from residency.actors.engine_requests import REQUEST_SCHEMA

    feather.write_feather(media, str(folder / "media.arrow"))
    feather.write_feather(pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA), str(folder / "requests.arrow"))


def read_work(folder: Path, seed: int) -> pa.Table:
    import pyarrow.feather as feather

    table = feather.read_table(str(folder / "requests.arrow"))
    seeds = pa.array([seed * 1_000_000 + 1000 * row for row in range(table.num_rows)], pa.int64())
    return table.set_column(table.column_names.index("seed"), "seed", seeds)


def engine_config() -> Any:
    from residency.actors.engine_config import EngineConfig

    return EngineConfig(max_model_len=256, threads=max(1, len(os.sched_getaffinity(0))))


def actor_side(folder: Path, tokens: int) -> Round:
    """Requests and traces pass through the object store, as in a run."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import pyarrow.feather as feather
    import ray

    from residency.actors.generator import start_generator
    from residency.platform.sampling import SamplingConfig

    ray.init(
        num_cpus=2,
        object_store_memory=150 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(folder / "r"),
    )
    generator = start_generator(folder / "student", engine_config())
    media_ref = ray.put(feather.read_table(str(folder / "media.arrow")))
    ray.get(generator.load_media.remote(media_ref), timeout=DEADLINE_SECONDS)
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=tokens)

    def one_round(seed: int) -> int:
        requests = ray.put(read_work(folder, seed))
        traces: Any = ray.get(generator.generate.remote(requests, sampling), timeout=DEADLINE_SECONDS)
        return sum(len(ids) for ids in traces.column("token_ids"))

    return one_round


def offline_side(folder: Path, tokens: int, in_process: bool) -> Round:
    """What a user of vLLM writes: ``LLM.generate`` over prompts with images."""
    from residency.actors.engine_config import engine_environment

    config = engine_config()
    environment = engine_environment(config.threads)
    if not in_process:
        del environment["VLLM_ENABLE_V1_MULTIPROCESSING"]
    os.environ.update(environment)
    import pyarrow.feather as feather
    from vllm import LLM, SamplingParams

    from residency.actors.engine_requests import MediaShelf, chat_renderer, read_requests
    from residency.actors.media_ban import MEDIA_TOKEN_BAN
    from residency.platform.sampling import SamplingConfig

    llm = LLM(
        model=str(folder / "student"),
        dtype=config.dtype,  # pyright: ignore[reportArgumentType] (vLLM checks the name)
        max_model_len=config.max_model_len,
        max_num_seqs=config.max_sequences,
        max_num_batched_tokens=config.max_batch_tokens,
        block_size=config.block_size,
        kv_cache_memory_bytes=int(config.kv_cache_gib * 1024**3),
        limit_mm_per_prompt={"image": 1, "video": 0},
        enforce_eager=True,
        logprobs_mode="processed_logprobs",
        logits_processors=[MEDIA_TOKEN_BAN],
    )
    shelf = MediaShelf(feather.read_table(str(folder / "media.arrow")))
    render = chat_renderer(llm.get_tokenizer())
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=tokens)

    def one_round(seed: int) -> int:
        requests = read_requests(read_work(folder, seed), sampling)
        prompts: list[Any] = [
            {"prompt": render(request), "multi_modal_data": {"image": shelf.image(request.media[0])}}
            for request in requests
        ]
        params = [
            SamplingParams(n=request.num_samples, seed=request.seed, temperature=1.0, max_tokens=tokens, logprobs=0)
            for request in requests
        ]
        outputs = llm.generate(prompts, params, use_tqdm=False)
        return sum(len(completion.token_ids) for output in outputs for completion in output.outputs)

    return one_round


def serve_rounds(side: str, folder: Path, tokens: int) -> None:
    """A child: one warm-up, then a round for each seed that comes on standard input, its result as a JSON line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints goes to standard error
    one_round = actor_side(folder, tokens) if side == "actor" else offline_side(folder, tokens, side != "offline")
    one_round(0)
    print(json.dumps({"ready": side}), file=answers, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        num_tokens = one_round(int(line))
        print(json.dumps({"tokens": num_tokens, "seconds": time.perf_counter() - started}), file=answers, flush=True)


def measure(folder: Path, tokens: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Alternate rounds over the sides."""
    results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with Sides(__file__, SIDES, ["--folder", str(folder), "--tokens", str(tokens)]) as sides:
        for seed in range(1, rounds + 1):
            for side in SIDES:
                results[side].append(sides.ask(side, str(seed)))
    return results


def main() -> None:
    from reporting import report

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help="(internal) be one side")
    parser.add_argument("--folder", type=Path, help="(internal) its work")
    arguments = parser.parse_args()
    if arguments.side:
        serve_rounds(arguments.side, arguments.folder, arguments.tokens)
        return
    with tempfile.TemporaryDirectory(
        prefix="rb-", ignore_cleanup_errors=True
    ) as name:  # short: Ray's sockets lie below
        folder = Path(name)
        build_work(folder, arguments.prompts, arguments.samples)
        results = measure(folder, arguments.tokens, arguments.rounds)
    rates = {
        side: statistics.median(result["tokens"] / result["seconds"] for result in rounds)
        for side, rounds in results.items()
    }
    ratios = {side: rates["actor"] / rates[side] for side in SIDES[1:]}
    hardest = min(ratios.values())
    report(
        "generator",
        round(hardest, 3),
        "actor tokens/s over offline vLLM tokens/s",
        GOAL_RATIO,
        hardest >= GOAL_RATIO,
        {
            "tokens_per_second": {side: round(rate) for side, rate in rates.items()},
            "ratios": {side: round(ratio, 3) for side, ratio in ratios.items()},
            "rounds": results,
            "work": {name: getattr(arguments, name) for name in ("prompts", "samples", "tokens")},
        },
    )


if __name__ == "__main__":
    main()
