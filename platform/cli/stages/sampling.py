"""Sampling and judging: requests out, references of rollouts from generator to verifier, verdicts back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from residency.platform.arrow_tables import to_table
from residency.platform.cli.crew import Crew
from residency.platform.errors import RoleError
from residency.platform.prompts import render_prompt
from residency.platform.records import Item, PromptMode, short_hash
from residency.platform.sampling import SamplingConfig

REQUESTS = pa.schema(
    [
        ("item_id", pa.string()),
        ("prompt", pa.string()),
        ("media", pa.list_(pa.string())),
        ("prompt_mode", pa.string()),
        ("num_samples", pa.int32()),
        ("seed", pa.int64()),
    ]
)
CHUNK_ROLLOUTS = 512  # rollouts of one call: large enough to fill an engine, small enough to show progress


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One call's rollouts and verdicts: the references, and the tables they stand for."""

    items: tuple[Item, ...]
    traces_ref: Any
    traces: pa.Table
    verdicts: pa.Table

    @property
    def num_faults(self) -> int:
        """Verdicts that are our own failure."""
        return sum(status in ("error", "timeout") for status in self.verdicts.column("status").to_pylist())


def request_seed(*parts: object) -> int:
    """A seed of 31 bits that depends on every part, so that no two requests share random numbers by accident."""
    return int(short_hash(*map(str, parts)), 16) % (1 << 31)


def build_requests(
    items: Sequence[Item],
    mode: PromptMode,
    num_samples: int,
    seed_of: Callable[[Item], int],
    media: Mapping[str, str] | None = None,
) -> pa.Table:
    """The request table of some items; ``media`` puts other images in the place of the true ones (hash → hash)."""
    swap = media or {}
    return pa.table(
        {
            "item_id": [item.id for item in items],
            "prompt": [render_prompt(item, mode) for item in items],
            "media": [[swap.get(key, key) for key in item.media] for item in items],
            "prompt_mode": [mode.value] * len(items),
            "num_samples": [num_samples] * len(items),
            "seed": [seed_of(item) for item in items],
        },
        schema=REQUESTS,
    )


async def sample(
    crew: Crew,
    purpose: str,
    items: Sequence[Item],
    *,
    mode: PromptMode,
    num_samples: int,
    sampling: SamplingConfig,
    media: Mapping[str, str] | None = None,
    generators: Sequence[Any] | None = None,
) -> AsyncIterator[Sampled]:
    """Sample every item and judge every trace, a chunk at a time, in the order of the items.

    While a chunk is judged the next one is generated. ``purpose`` enters the seeds.
    """
    engines = list(generators) if generators is not None else await crew.generators()
    per_chunk = max(1, CHUNK_ROLLOUTS // num_samples)
    chunks = [tuple(items[start : start + per_chunk]) for start in range(0, len(items), per_chunk)]
    waiting: list[asyncio.Task[Sampled]] = []
    locks = [asyncio.Lock() for _ in engines]

    async def one(index: int) -> Sampled:
        engine = index % len(engines)
        requests = build_requests(
            chunks[index], mode, num_samples, lambda item: request_seed(crew.seed, purpose, item.id), media
        )
        async with locks[engine]:
            traces_ref = await crew.call_for_reference(
                engines[engine].generate, requests, sampling, who="a generator", what=f"sampling for {purpose}"
            )
        verdicts = await crew.judge(traces_ref, chunks[index])
        traces = await crew.fetch(traces_ref, "a generator's rollouts")
        crew.run.event(
            "rollouts_passed", purpose=purpose, reference=crew.name_of(traces_ref), bytes=traces.nbytes,
            rollouts=traces.num_rows, source="generator", sink="verifier",
        )  # fmt: skip
        return Sampled(items=chunks[index], traces_ref=traces_ref, traces=traces, verdicts=verdicts)

    try:
        for index in range(len(chunks)):
            waiting.append(asyncio.create_task(one(index)))
            if len(waiting) > len(engines):
                yield await waiting.pop(0)
        while waiting:
            yield await waiting.pop(0)
    finally:
        for task in waiting:
            task.cancel()


def refuse_faults(num_faults: int, num_verdicts: int, limit: float, where: str) -> None:
    """Raises RoleError where more than ``limit`` of the verdicts are our own failure (DESIGN §3)."""
    if num_verdicts and num_faults / num_verdicts > limit:
        raise RoleError(
            f"{num_faults} of {num_verdicts} verdicts in {where} are faults of the verifier",
            f"at most {limit:.1%}",
            "look at the verdicts with status error or timeout; a policy must not learn to crash its judge",
        )


def items_table(items: Sequence[Item]) -> pa.Table:
    return to_table(items, Item)
