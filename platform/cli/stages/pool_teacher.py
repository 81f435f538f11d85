"""A model on the generator pool as a teacher: many questions become one call, so that the engine is full."""

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from residency.actors.engine_requests import REQUEST_SCHEMA
from residency.platform.cli.crew import Crew
from residency.platform.cluster import name_of
from residency.platform.errors import ResidencyError
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool
from residency.platform.records import REFUSED, PromptMode
from residency.platform.sampling import SamplingConfig
from residency.synthesis.pipeline.ledger import trace_id
from residency.synthesis.teachers.teacher import TeacherError, TeacherRefusedError, TeacherReply, TeacherRequest

CALL_ROLLOUTS = 512  # of one call, at most: large enough to fill an engine
QUIET_SECONDS = 0.15  # so long nothing came: whoever is waiting is asked, if an engine is free
TURN_SECONDS = 0.2


@dataclass(slots=True, eq=False)
class Asked:
    """One request that waits for its reply."""

    request: TeacherRequest
    reply: "asyncio.Future[TeacherReply]"

    @property
    def sampling(self) -> tuple[float, int]:
        return self.request.temperature, self.request.max_tokens


def rows_of(batch: Sequence[Asked]) -> tuple[pa.Table, list[list[Asked]]]:
    """The request table of a batch, and who waits for each of its rows: an item's samples in one row where they follow.

    Sample k of a row is drawn with its seed + k, as the samples of an item are.
    """
    rows: list[list[Asked]] = []
    for asked in batch:
        last = rows[-1][-1].request if rows else None
        now = asked.request
        greedy = now.temperature == 0
        if last and not greedy and (last.item.id, last.prompt, last.seed + 1) == (now.item.id, now.prompt, now.seed):
            rows[-1].append(asked)
        else:
            rows.append([asked])
    firsts = [row[0].request for row in rows]
    columns = {
        "item_id": [first.item.id for first in firsts],
        "prompt": [first.prompt for first in firsts],
        "media": [list(first.media) for first in firsts],
        "prompt_mode": [PromptMode.THINK.value] * len(firsts),
        "num_samples": [len(row) for row in rows],
        "seed": [first.seed for first in firsts],
    }
    return pa.table(columns, schema=REQUEST_SCHEMA), rows


def named(traces: pa.Table, asked: Sequence[Asked]) -> pa.Table:
    """The engine's traces under the ledger's ids, and as the samples of their item that they are."""
    ids = [trace_id(one.request.key, text) for one, text in zip(asked, traces.column("text").to_pylist(), strict=True)]
    columns = {
        "id": pa.array(ids, pa.string()),
        "seed": pa.array([one.request.seed - one.request.sample for one in asked], pa.int64()),
        "sample_index": pa.array([one.request.sample for one in asked], pa.int32()),
    }
    for name, values in columns.items():
        traces = traces.set_column(traces.schema.get_field_index(name), name, values)
    return traces


def folder_revision(folder: Path) -> str:
    """Names a model folder's state without reading its weights: its configuration, and names and sizes of its files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    config = folder / "config.json"
    digest.update(config.read_bytes() if config.is_file() else b"")
    return digest.hexdigest()[:16]


class EngineTurns:
    """One teacher's engines at a time, so that a profile needs room for one: the next start when nobody asks the last.

    ``is_quiet`` says whether the pipeline has nothing on its way that could still ask the one that is up.
    """

    def __init__(self) -> None:
        self.is_quiet: Callable[[], bool] = lambda: True
        self._holder: PoolTeacher | None = None
        self._lock = asyncio.Lock()

    async def enter(self, teacher: "PoolTeacher") -> None:
        """Returns when it is this teacher's turn; who is up works to its end first (calls have deadlines)."""
        async with self._lock:
            while (holder := self._holder) not in (None, teacher):
                assert holder is not None
                if holder.is_idle and self.is_quiet():
                    await holder.shut()
                    break
                await asyncio.sleep(TURN_SECONDS)
            self._holder = teacher


class PoolTeacher:
    """``open_pool`` brings the engines up, and returns their pool and the model's revision; ``shut`` ends them.

    ``part`` names the files in ``traces/`` that hold tokens and logprobs of what was sampled.
    """

    def __init__(
        self,
        crew: Crew,
        name: str,
        part: str,
        engines: int,
        open_pool: Callable[[], Awaitable[tuple[Pool, str]]],
        close_pool: Callable[[], Awaitable[None]] | None,
        turns: EngineTurns,
    ) -> None:
        self.name, self.in_flight = name, CALL_ROLLOUTS * (engines + 1)
        self._crew, self._part, self._engines, self._turns = crew, part, engines, turns
        self._open_pool, self._close_pool = open_pool, close_pool
        self._opened: tuple[Pool, str] | None = None
        self._waiting: list[Asked] = []
        self._changed = asyncio.Event()  # more are waiting, or a call has ended
        self._calls: set[asyncio.Task[None]] = set()
        self._sender: asyncio.Task[None] | None = None
        self._parts = itertools.count(len(list((crew.run.path / "traces").glob(f"part-{part}-*.arrow"))))

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        asked = Asked(request, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._changed.set()
        return await asked.reply

    @property
    def is_idle(self) -> bool:
        return not (self._waiting or self._calls)

    async def shut(self) -> None:
        """Ends the engines; the next request starts them again."""
        opened, self._opened = self._opened, None
        if opened is not None and self._close_pool is not None:
            await self._close_pool()

    async def close(self) -> None:
        for task in (*self._calls, *([self._sender] if self._sender else [])):
            task.cancel()
        await asyncio.gather(*self._calls, *([self._sender] if self._sender else []), return_exceptions=True)
        await self.shut()

    async def _send(self) -> None:
        """Waits until a call is full, or until nothing more comes and an engine stands idle."""
        while True:
            self._changed.clear()
            full, calls = len(self._waiting) >= CALL_ROLLOUTS, len(self._calls)
            if self._waiting and (calls < self._engines or (full and calls == self._engines)):
                if full or await self._nothing_more():
                    self._start(self._take())
            else:
                await self._changed.wait()

    async def _nothing_more(self) -> bool:
        number = len(self._waiting)
        await asyncio.sleep(QUIET_SECONDS)
        return len(self._waiting) == number

    def _take(self) -> list[Asked]:
        """The next call's requests: those that are sampled like the first."""
        alike = self._waiting[0].sampling
        batch = [asked for asked in self._waiting if asked.sampling == alike][:CALL_ROLLOUTS]
        taken = set(map(id, batch))
        self._waiting = [asked for asked in self._waiting if id(asked) not in taken]
        return batch

    def _start(self, batch: list[Asked]) -> None:
        call = asyncio.create_task(self._answer(batch))
        self._calls.add(call)
        call.add_done_callback(self._ended)

    def _ended(self, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        self._changed.set()

    async def _answer(self, batch: list[Asked]) -> None:
        """Every request of the batch gets its reply or its error."""
        try:
            await self._turns.enter(self)
            if self._opened is None:
                self._opened = await self._open_pool()
        except ResidencyError as error:
            refuse(batch, self.name, error)
            return
        await self._generate(batch, *self._opened)

    async def _generate(self, batch: list[Asked], pool: Pool, revision: str) -> None:
        """One call; where it kills its engines its halves are asked alone, until the request that does it is found."""
        temperature, max_tokens = batch[0].sampling
        sampling = SamplingConfig(temperature=temperature, max_new_tokens=max_tokens)
        requests, rows = rows_of(batch)

        async def ask(member: Member) -> tuple[str, Any]:
            with self._crew.idle.busy("generator", member.name):
                reference = member.handle.generate.remote(requests, sampling)
                await reference
            return member.name, reference

        try:
            worker, reference = await pool.call(ask, what=f"asking {self.name}", num_bytes=requests.nbytes)
            traces = await self._crew.fetch(reference, "a teacher's rollouts")
        except ResidencyError as error:
            if not pool.members and not await comes_up(pool):
                refuse(batch, self.name, error)
                return
            if len(batch) == 1:
                fail(batch[0], TeacherError(f"{self.name}: {error}"))
                return
            half = len(batch) // 2
            for part in (batch[:half], batch[half:]):
                await self._generate(part, pool, revision)
            return
        asked = [one for row in rows for one in row]
        traces = named(traces, asked)
        number = next(self._parts)
        await asyncio.to_thread(self._crew.run.write_part, "traces", self._part, number, traces)
        self._crew.run.event(
            "rollouts_passed", purpose=self._part, reference=name_of(reference), bytes=traces.nbytes,
            rollouts=traces.num_rows, source=worker, sink="verifier",
        )  # fmt: skip
        names = ("text", "finish_reason", "model", "seconds", "prompt_token_ids", "token_ids")
        columns = [traces.column(name).to_pylist() for name in names]
        for one, row in zip(asked, zip(*columns, strict=True), strict=True):
            text, finish_reason, model, seconds, prompt_ids, token_ids = row
            fault = f"the engine refused it: {text}" if finish_reason == REFUSED else "" if text.strip() else "empty"
            reply = TeacherReply(
                text=text, finish_reason=finish_reason, tokens_in=len(prompt_ids), tokens_out=len(token_ids),
                seconds=seconds, model=model, revision=revision, fault=fault,
            )  # fmt: skip
            if not one.reply.done():
                one.reply.set_result(reply)


def fail(asked: Asked, error: Exception) -> None:
    if not asked.reply.done():
        asked.reply.set_exception(error)


def refuse(batch: Sequence[Asked], name: str, cause: ResidencyError) -> None:
    """Nobody could answer any of them: the run stops, and goes on when the cause is mended."""
    for asked in batch:
        fail(
            asked,
            TeacherRefusedError(
                f"the engines of {name} are not up: {cause}",
                "a model that the profile's engines can load",
                "mend the cause and start again: it goes on",
            ),
        )


async def comes_up(pool: Pool) -> bool:
    """Whether the pool still gets workers."""
    try:
        await pool.ready()
    except ResidencyError:
        return False
    return True
