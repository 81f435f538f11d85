"""Sampling and judging: requests out, references of rollouts from generator to verifier, verdicts back.

The samples of one item for one purpose are a *group*, and a key of the run's journal. What the journal holds as
answered or judged is read back from the run's folder after a restart, and is not asked again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from residency.actors.engine_requests import REQUEST_SCHEMA
from residency.platform.cli.crew import Crew
from residency.platform.cluster import name_of, put
from residency.platform.errors import LostObjectError, PoolStoppedError, ResidencyError, RoleError
from residency.platform.journal.records import Answered, Judged
from residency.platform.journal.state import Stage
from residency.platform.memory_plan import rollout_bytes
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool
from residency.platform.prompts import render_prompt
from residency.platform.records import Item, PromptMode, short_hash
from residency.platform.sampling import SamplingConfig

CHUNK_ROLLOUTS = 512  # rollouts of one call: large enough to fill an engine, small enough to show progress


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Groups that are asked in one call, always the same ones: repeated after a restart it gives the same tokens."""

    purpose: str
    number: int
    items: tuple[Item, ...]
    keys: tuple[str, ...]  # the journal's, one an item
    requests: pa.Table
    sampling: SamplingConfig


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One chunk's rollouts and verdicts: the reference, and the tables it stands for."""

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


def key_of(purpose: str, item: Item) -> str:
    """The journal's key of one item's samples for one purpose."""
    return f"{purpose}/{item.id}"


def build_requests(
    items: Sequence[Item],
    mode: PromptMode,
    num_samples: int,
    seed_of: Callable[[Item], int],
    media: Mapping[str, Sequence[str]] | None = None,
    prompt_of: Callable[[Item, PromptMode], str] = render_prompt,
) -> pa.Table:
    """The request table of some items; ``media`` gives an item other images than its own (item id → hashes)."""
    swap = media or {}
    return pa.table(
        {
            "item_id": [item.id for item in items],
            "prompt": [prompt_of(item, mode) for item in items],
            "media": [list(swap.get(item.id, item.media)) for item in items],
            "prompt_mode": [mode.value] * len(items),
            "num_samples": [num_samples] * len(items),
            "seed": [seed_of(item) for item in items],
        },
        schema=REQUEST_SCHEMA,
    )


def plan_chunks(
    crew: Crew,
    purpose: str,
    items: Sequence[Item],
    mode: PromptMode,
    num_samples: int,
    sampling: SamplingConfig,
    media: Mapping[str, Sequence[str]] | None,
    prompt_of: Callable[[Item, PromptMode], str],
) -> list[Chunk]:
    """All groups of a purpose, admitted to the journal with what they ask."""
    per_chunk = max(1, CHUNK_ROLLOUTS // num_samples)
    chunks = []
    for number, start in enumerate(range(0, len(items), per_chunk)):
        asked = tuple(items[start : start + per_chunk])
        requests = build_requests(
            asked, mode, num_samples, lambda item: request_seed(crew.seed, purpose, item.id), media, prompt_of
        )
        keys = tuple(key_of(purpose, item) for item in asked)
        asks = [short_hash(repr(sampling), repr(row)) for row in requests.to_pylist()]
        crew.queue.admit(dict(zip(keys, asks, strict=True)))
        chunks.append(
            Chunk(purpose=purpose, number=number, items=asked, keys=keys, requests=requests, sampling=sampling)
        )
    return chunks


async def sample(
    crew: Crew,
    purpose: str,
    items: Sequence[Item],
    *,
    mode: PromptMode,
    num_samples: int,
    sampling: SamplingConfig,
    media: Mapping[str, Sequence[str]] | None = None,
    prompt_of: Callable[[Item, PromptMode], str] = render_prompt,
    generators: Pool | None = None,
) -> AsyncIterator[Sampled]:
    """Sample every item and judge every trace, a chunk at a time, in the order of the items.

    While chunks are judged the next ones are generated. ``purpose`` enters the seeds and names the parts in ``traces/``
    and ``verdicts/``: every trace, kept or not, is on disk before it counts.
    """
    chunks = plan_chunks(crew, purpose, items, mode, num_samples, sampling, media, prompt_of)
    waiting: list[asyncio.Task[Sampled]] = []
    try:
        for chunk in chunks:
            waiting.append(asyncio.create_task(sample_chunk(crew, chunk, generators)))
            if len(waiting) > crew.profile.generators.most_actors:
                yield await waiting.pop(0)
        while waiting:
            yield await waiting.pop(0)
    finally:
        for task in waiting:
            task.cancel()


async def sample_chunk(
    crew: Crew, chunk: Chunk, generators: Pool | None, begins: Callable[[], None] = lambda: None
) -> Sampled:
    """One chunk from wherever it was left: still to be asked, to be judged, or only to be read back.

    ``begins`` is called whenever a generator is given it.
    """
    answered, judged = is_past(crew, chunk.keys, Stage.ANSWERED), is_past(crew, chunk.keys, Stage.JUDGED)
    if answered:
        traces = crew.run.read_part("traces", chunk.purpose, chunk.number)
        traces_ref = put(traces)
    else:
        traces_ref, traces = await generate_chunk(crew, chunk, generators or await crew.generators(), begins)
    if judged:
        verdicts = crew.run.read_part("verdicts", chunk.purpose, chunk.number)
    else:
        verdicts = await judge_chunk(crew, chunk, traces_ref, traces)
    return Sampled(items=chunk.items, traces_ref=traces_ref, traces=traces, verdicts=verdicts)


def is_past(crew: Crew, keys: Sequence[str], stage: Stage) -> bool:
    """Whether all these groups have come so far; what was given up counts as not asked."""
    known = crew.journal.state.keys
    return all(key in known and stage <= known[key].stage < Stage.FAILED for key in keys)


async def generate_chunk(
    crew: Crew, chunk: Chunk, generators: Pool, begins: Callable[[], None]
) -> tuple[Any, pa.Table]:
    """Reference and table of a chunk's traces, on disk and in the journal; a lost generator's work is asked anew."""

    async def ask(member: Member) -> tuple[str, Any]:
        asked = await crew.queue.request(chunk.keys, member.name)
        if len(asked) < len(chunk.keys):
            raise given_up(crew, chunk)
        begins()
        try:
            with crew.idle.busy("generator", member.name):
                reference = member.handle.generate.remote(chunk.requests, chunk.sampling)
                await reference
        except asyncio.CancelledError:
            await crew.queue.give_back(chunk.keys, f"{member.name} left or was lost", spent=member.spent)
            raise
        return member.name, reference

    what, rollouts = f"sampling for {chunk.purpose}", sum(chunk.requests.column("num_samples").to_pylist())
    num_bytes = chunk.requests.nbytes + rollouts * rollout_bytes(crew.recipe)  # what comes back must find room as well
    while True:  # `ask` ends it after the last of the groups' tries
        try:
            worker, traces_ref = await generators.call(ask, what=what, num_bytes=num_bytes)
            traces = await crew.fetch(traces_ref, "a generator's rollouts")
            break
        except LostObjectError as error:
            await crew.queue.give_back(chunk.keys, str(error), spent=True)
        except ResidencyError as error:
            await crew.queue.give_back(chunk.keys, str(error), spent=not isinstance(error, PoolStoppedError))
            raise
    name = crew.run.write_part("traces", chunk.purpose, chunk.number, traces)
    versions, refs = versions_by_item(traces), (name,)
    await crew.queue.answer(
        [Answered(key, worker, refs, *versions[item.id]) for key, item in zip(chunk.keys, chunk.items, strict=True)]
    )
    crew.run.event(
        "rollouts_passed", purpose=chunk.purpose, reference=name_of(traces_ref), bytes=traces.nbytes,
        rollouts=traces.num_rows, source=worker, sink="verifier",
    )  # fmt: skip
    return traces_ref, traces


def given_up(crew: Crew, chunk: Chunk) -> RoleError:
    """The error of a chunk whose groups are dead letters: it would only fail again."""
    letters = crew.queue.dead_letters(f"{chunk.purpose}/")
    cause = letters[-1].cause if letters else "its groups were answered by somebody else"
    return RoleError(
        f"{len(letters)} groups of {chunk.purpose} were given up: {cause}",
        "an answer within three tries",
        f"mend the cause, then `residency retry {crew.run.path}` and start the run again",
    )


def versions_by_item(traces: pa.Table) -> dict[str, tuple[int, int]]:
    """Item → (oldest, newest) packed version of its tokens."""
    found: dict[str, tuple[int, int]] = {}
    spans: dict[tuple[int, int], tuple[int, int]] = {}  # equal ones are one object: the journal's state keeps them all
    item_ids, versions = traces.column("item_id").to_pylist(), traces.column("policy_versions").to_pylist()
    for item_id, tokens in zip(item_ids, versions, strict=True):
        oldest, newest = found.get(item_id, (min(tokens, default=0), max(tokens, default=0)))
        span = min([oldest, *tokens]), max([newest, *tokens])
        found[item_id] = spans.setdefault(span, span)
    return found


async def judge_chunk(crew: Crew, chunk: Chunk, traces_ref: Any, traces: pa.Table) -> pa.Table:
    """Verdicts of a chunk's traces, on disk and in the journal."""
    try:
        verdicts = await crew.judge(traces_ref, chunk.items)
    except LostObjectError:  # its node died after this one had read it
        verdicts = await crew.judge(put(traces), chunk.items)
    name = crew.run.write_part("verdicts", chunk.purpose, chunk.number, verdicts)
    refs, distinct = (name,), dict[float | None, float | None]()  # equal scores are one object, as above
    earned = [distinct.setdefault(score, score) for score in verdicts.column("score").to_pylist()]
    score_of = dict(zip(verdicts.column("trace_id").to_pylist(), earned, strict=True))
    scores: dict[str, list[float | None]] = {item.id: [] for item in chunk.items}
    for item_id, trace_id in zip(traces.column("item_id").to_pylist(), traces.column("id").to_pylist(), strict=True):
        scores[item_id].append(score_of[trace_id])
    await crew.journal.durable(
        *(Judged(key, tuple(scores[item.id]), refs) for key, item in zip(chunk.keys, chunk.items, strict=True))
    )
    return verdicts


def refuse_faults(num_faults: int, num_verdicts: int, limit: float, where: str) -> None:
    """Raises RoleError where more than ``limit`` of the verdicts are our own failure (DESIGN §3)."""
    if num_verdicts and num_faults / num_verdicts > limit:
        raise RoleError(
            f"{num_faults} of {num_verdicts} verdicts in {where} are faults of the verifier",
            f"at most {limit:.1%}",
            "look at the verdicts with status error or timeout; a policy must not learn to crash its judge",
        )
