"""The synthesis engine: items in; judged, routed traces on disk out; many in flight, each asked exactly once.

    pipeline = Pipeline(journal=journal, queue=queue, folder=folder, seats=seats, routing=routing, judge=judge)
    report = await pipeline.run(items)

Four kinds of coroutines share one loop. The *pump* keeps requests on disk ahead of the teachers (admit → request),
*workers* ask, the *writer* puts answers and finished ledger rows on disk, many for one sync, and only then lets them
count (answer), the *judge* takes verdicts and routes. Rows in memory are bounded by a window of items. A kill at any
point costs what was in flight: at a restart each unfinished item goes through the same routing out of its answers.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from residency.platform.errors import DataError, StorageError
from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Answered, Judged
from residency.platform.journal.state import Stage
from residency.platform.records import Item
from residency.platform.synthesis_config import BudgetConfig
from residency.platform.work_queue import WorkQueue
from residency.synthesis.pipeline.accounts import Judge, PipelineReport, judge_each
from residency.synthesis.pipeline.answers import read_answers, spent_before
from residency.synthesis.pipeline.lives import Job, Life, add_jobs
from residency.synthesis.pipeline.seats import Seat
from residency.synthesis.pipeline.settling import ledger_rows, outcome_row, settle
from residency.synthesis.pipeline.shelf import Shelf, next_start
from residency.synthesis.routing.actions import Accept, Drop
from residency.synthesis.routing.next_action import Routing, next_action
from residency.synthesis.teachers.budget import Budget
from residency.synthesis.teachers.structured import to_tagged
from residency.synthesis.teachers.teacher import TeacherError, TeacherReply

PREFIX = "synth"
GATHER_SECONDS, GATHER_TIMES = 0.02, 5  # rows of so long share one sync; only a kill feels the wait
GATHERED_ROWS = 64  # as many do not wait any longer
WINDOW = 8  # items on their way for each request in flight: the others wait for disk or verdict
JUDGED_AT_ONCE = 512
TAKEN_AT_ONCE = 256
PASSED_OVER_AT_ONCE = 2000  # items that ended before, until others get a turn on the loop


def default_seed(item: Item) -> int:
    """31 bits; sample n is drawn with this seed + n."""
    return zlib.crc32(item.id.encode()) >> 1


@dataclass(frozen=True, slots=True)
class Ended:
    """A decided item: its rows, and its keys for the journal once these are on disk."""

    traces: list[tuple[Any, ...]]
    outcome: tuple[Any, ...]
    judged: list[tuple[str, float | None]]


class Pipeline:
    """One run of the engine on one journal; ``folder`` holds its logs. ``run`` may be called once.

    ``on_ended`` is told how many items have their end by now; ``also_spent`` are folders of other pipelines whose
    spending counts against the same budget.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        queue: WorkQueue,
        folder: Path,
        seats: Sequence[Seat],
        routing: Routing,
        judge: Judge,
        max_tokens: int,
        budget: BudgetConfig | None = None,
        seed_of: Callable[[Item], int] = default_seed,
        prefix: str = PREFIX,
        on_ended: Callable[[int], None] | None = None,
        also_spent: Sequence[Path] = (),
    ) -> None:
        self._journal, self._queue, self._folder = journal, queue, folder
        self._seats, self._routing, self._judge_all = list(seats), routing, judge
        self._max_tokens, self._seed_of, self._prefix = max_tokens, seed_of, prefix
        self._on_ended = on_ended
        self._budget = Budget(budget or BudgetConfig(), spent_before(folder, *also_spent))
        self._began = time.monotonic()
        self._shelf = Shelf(folder, next_start(folder, len(journal.state.opened)))
        in_flight = sum(seat.teacher.in_flight for seat in self._seats)
        self._most_open = max(64, WINDOW * in_flight)
        self._most_asked = 2 * in_flight + 2 * len(self._seats)  # where the disk is slow, asking waits for it
        self._items: Iterator[Item] = iter(())
        self._source_left = True
        self._open = 0  # items on their way
        self._asked = 0  # requests on disk whose end the writer has not seen
        self._replied: list[tuple[Job, TeacherReply]] = []
        self._failed: list[tuple[Job, str]] = []
        self._returned: list[Job] = []  # not asked: the budget was spent
        self._ended: list[Ended] = []
        self._to_judge: list[tuple[Job, TeacherReply]] = []
        self._room, self._arrived, self._judging = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._finished = asyncio.Event()
        self._busy = 0  # coroutines between taking something and handing it on
        self.report = PipelineReport()

    async def run(self, items: Iterable[Item]) -> PipelineReport:
        """Until every item has its end or the budget is spent: then nothing new begins, and what is in flight ends.

        Raises TeacherRefusedError where an endpoint takes nothing from us, DataError where known keys are asked
        something else than before, StorageError where the disk takes nothing; a new start goes on from there.
        """
        self._items = iter(items)
        self._room.set()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(job()) for job in (self._pump, self._write, self._judge)]
                for seat in self._seats:
                    tasks += [group.create_task(self._work(seat)) for _ in range(seat.teacher.in_flight)]
                await self._finished.wait()
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        finally:
            self._shelf.close()
            for seat in self._seats:
                await seat.teacher.close()
        self.report.spent = self._budget.spent
        return self.report

    # the pump: items become requests --------------------------------------------------------------------------------

    async def _pump(self) -> None:
        while True:
            await self._room.wait()
            await asyncio.sleep(0)
            self._room.clear()
            self._busy += 1
            if not self.report.stopped:
                self.report.stopped = self._budget.exhausted()
            if not self.report.stopped:
                await self._take_items()
                for seat in self._seats:
                    while seat.ready and seat.is_short and self._asked < self._most_asked:
                        await self._request(seat)
            else:
                self._empty_inboxes()
            self._busy -= 1
            self._check_finished()

    async def _take_items(self) -> None:
        """New items up to the window; those with answers of an earlier start are led on from there."""
        known: list[tuple[Job, str]] = []
        passed_over, enough = 0, self._open + TAKEN_AT_ONCE
        while self._source_left and self._open < self._most_open:
            if self._open >= enough:
                self._room.set()  # requests first, then the next ones
                break
            item = next(self._items, None)
            if item is None:
                self._source_left = False
                break
            if not self._begin(item, known):
                passed_over += 1
                if passed_over % PASSED_OVER_AT_ONCE == 0:
                    await asyncio.sleep(0)
        if passed_over and self._on_ended:
            self._on_ended(self.report.items)
        if known:
            await self._recall(known)

    def _begin(self, item: Item, known: list[tuple[Job, str]]) -> bool:
        """Starts an item; False where it had its end already."""
        first = self._journal.state.keys.get(f"{self._prefix}/{item.id}/0")
        if first is not None and first.stage is Stage.JUDGED:
            self.report.finished_before += 1
            return False
        self._open += 1
        self._advance(Life(item), known)
        return True

    def _advance(self, life: Life, known: list[tuple[Job, str]]) -> None:
        """What routing says next of an item of which nothing is pending; ``known`` takes what was answered already."""
        action = next_action(life.item, life.settled(), self._routing)
        if isinstance(action, Accept | Drop):
            self._end(life, action)
            return
        keys = self._journal.state.keys
        waiting = list[Job]()
        for job in add_jobs(life, action, self._prefix, self._seed_of(life.item)):
            now = keys.get(job.key)
            if now is None or now.stage is Stage.ADMITTED:
                waiting.append(job)
            elif now.stage is Stage.FAILED:
                self._park(life)
            elif now.answer is not None:
                known.append((job, now.answer.refs[0]))
            else:
                raise DataError(f"{job.key} is {now.stage.name.lower()}", "one pipeline for a run's journal")
        if not life.is_parked:
            for job in waiting:
                self._seats[job.teacher].ready.append(job)

    async def _recall(self, known: list[tuple[Job, str]]) -> None:
        """Answers of an earlier start go to the judge again."""
        replies = await asyncio.to_thread(read_answers, self._folder, [(job.key, ref) for job, ref in known])
        for job, reference in known:
            if job.key not in replies:
                raise StorageError(f"{reference} lacks the answer of {job.key}", "the batch as it was written")
            self._to_judge.append((job, replies[job.key]))
        self._judging.set()

    async def _request(self, seat: Seat) -> None:
        """The next requests of a teacher: on disk, then into its inbox."""
        batch: dict[str, Job] = {}
        while seat.ready and len(batch) + seat.inbox.qsize() < seat.most_ahead:
            job = seat.ready.popleft()
            if not job.life.is_parked:
                batch[job.key] = job
        name = seat.teacher.name
        self._queue.admit({key: job.asks(name, self._prompt_hash(seat, job)) for key, job in batch.items()})
        self._asked += len(batch)
        asked = await self._queue.request(batch, name)
        for key in asked:
            seat.inbox.put_nowait(batch[key])
        self._asked -= len(batch) - len(asked)

    def _prompt_hash(self, seat: Seat, job: Job) -> str:
        return seat.prompt_name(job.life.item, job.strategy)[1]

    def _empty_inboxes(self) -> None:
        for seat in self._seats:
            while not seat.inbox.empty():
                self._returned.append(seat.inbox.get_nowait())
        self._arrived.set()

    # workers ------------------------------------------------------------------------------------------------------

    async def _work(self, seat: Seat) -> None:
        while True:
            job = await seat.inbox.get()
            if seat.is_short:
                self._room.set()
            try:
                reply = await seat.teacher.ask(seat.request(job, self._max_tokens))
            except (TeacherError, DataError) as error:  # this row's; the others go on
                self._failed.append((job, str(error)))
            else:
                if seat.is_structured(job.strategy) and not reply.fault:
                    text, fault = to_tagged(reply.text)
                    reply = replace(reply, text=text, fault=fault)
                self._replied.append((job, reply))
            self._arrived.set()

    # the writer: what is on disk counts ----------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self._arrived.wait()
            for _ in range(GATHER_TIMES):
                if self._more_to_come():
                    await asyncio.sleep(GATHER_SECONDS)
            self._arrived.clear()
            self._busy += 1
            await self._flush()
            self._busy -= 1
            self._room.set()
            self._check_finished()

    def _more_to_come(self) -> bool:
        """Whether it pays to wait for others before the next sync."""
        here = len(self._replied) + len(self._failed) + len(self._returned)
        return here < min(self._asked, GATHERED_ROWS) or bool(self._to_judge)

    async def _flush(self) -> None:
        replied, self._replied = self._replied, []
        failed, self._failed = self._failed, []
        returned, self._returned = self._returned, []
        ended, self._ended = self._ended, []
        rows = [(job.key, reply) for job, reply in replied]
        traces = [row for end in ended for row in end.traces]
        outcomes = [end.outcome for end in ended]
        if rows or ended:
            working = time.monotonic() - self._began
            answered, ledger = await asyncio.to_thread(self._shelf.write, rows, traces, outcomes, working)
            for end in ended:  # an item's keys in one call: a crash keeps all or none
                self._journal.append(*(Judged(key, (score,), (ledger,)) for key, score in end.judged))
            await self._queue.answer(
                [Answered(job.key, self._seats[job.teacher].teacher.name, (answered,)) for job, _ in replied]
            )
        for _, reply in replied:
            self._budget.add(reply.tokens_in, reply.tokens_out, reply.cost)
        self._to_judge += [(job, reply) for job, reply in replied if not job.life.is_parked]
        self._judging.set()
        if returned:
            await self._queue.give_back([job.key for job in returned], self.report.stopped, spent=False)
        if failed:
            await asyncio.gather(*(self._fail(job, cause) for job, cause in failed))
        self._asked -= len(replied) + len(failed) + len(returned)
        if ended and self._on_ended:
            self._on_ended(self.report.items)

    async def _fail(self, job: Job, cause: str) -> None:
        """Asked again, behind the others; after the last try a dead letter, and its item waits for a retry."""
        if await self._queue.give_back([job.key], cause, spent=True):
            self._park(job.life)
        else:
            self._seats[job.teacher].ready.append(job)

    def _park(self, life: Life) -> None:
        if not life.is_parked:
            life.is_parked = True
            self._open -= 1
            self.report.dead_letters += 1

    # the judge: replies become samples, samples decisions ----------------------------------------------------------

    async def _judge(self) -> None:
        while True:
            await self._judging.wait()
            self._judging.clear()
            while self._to_judge:
                self._busy += 1
                batch, self._to_judge = self._to_judge[:JUDGED_AT_ONCE], self._to_judge[JUDGED_AT_ONCE:]
                sound = [(job.life.item, reply.text) for job, reply in batch if not reply.fault]
                verdicts = iter(await judge_each(self._judge_all, sound))
                known = list[tuple[Job, str]]()
                for job, reply in batch:
                    life, verdict = job.life, None if reply.fault else next(verdicts)
                    life.samples[job.number] = settle(job, reply, verdict, self._seats[job.teacher].student_prompt)
                    life.replies[job.number], life.verdicts[job.number] = reply, verdict
                    life.num_pending -= 1
                    if not life.num_pending and not life.is_parked:
                        self._advance(life, known)
                if known:
                    await self._recall(known)
                self._busy -= 1
            self._room.set()
            self._check_finished()

    def _end(self, life: Life, action: Accept | Drop) -> None:
        """The item is decided; it counts for good when its rows are on disk."""
        judged = [
            (job.key, None if sample is None or sample.right is None else float(sample.right))
            for job, sample in zip(life.jobs, life.samples, strict=True)
        ]
        self._ended.append(
            Ended(ledger_rows(life, action, self._seats), outcome_row(life, action, self._seats), judged)
        )
        self._open -= 1
        self.report.count(action)
        self.report.traces += len(judged)
        self._arrived.set()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way but requests that teachers have: no verdict, no write, no new item is due."""
        on_disk_soon = self._replied or self._failed or self._returned or self._ended
        return not (self._busy or self._to_judge or on_disk_soon or self._room.is_set())

    def _check_finished(self) -> None:
        """Sets the end where nothing is under way and nothing more may begin."""
        under_way = self._asked or self._busy or self._to_judge or self._ended or self._replied or self._failed
        if under_way or self._returned or self._room.is_set():
            return
        if self.report.stopped or not (self._source_left or self._open):
            self._finished.set()
