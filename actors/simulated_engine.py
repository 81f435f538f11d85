"""An engine without a model: real Trace tables, made-up content, the time of continuous batching. No Ray.

For scale, chaos and fast tests: no recipe and no profile can name it. Many live in one loop; time passes on an injected
clock. It dies only with its process.

    engine = SimulatedEngine(load_simulated_config(), clock=clock, version=version, label="base")
    traces = await engine.generate_async(requests, sampling)      # many engines, one loop
    traces = engine.generate(requests, sampling, shelf)           # the Engine protocol, from any thread
"""

import asyncio
import heapq
import itertools
import json
import math
import os
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from residency.actors.engine_config import EngineHealth
from residency.actors.engine_requests import MediaShelf, Request, read_requests
from residency.actors.simulated_answers import (
    Completed,
    Draw,
    SimulatedEngineConfig,
    answer_texts,
    completed_table,
    draw,
)
from residency.platform.clock import Clock, RealClock
from residency.platform.errors import DeadlineError, RoleError, WeightUpdateError
from residency.platform.records import Item, PolicyVersion
from residency.platform.sampling import SamplingConfig
from residency.training.weights_echo import WeightsEcho

if TYPE_CHECKING:  # it imports torch
    from residency.training.weight_buckets import WeightsManifest

Result = TypeVar("Result")
NEARLY = 1e-3  # tokens: what rounding may leave of a sequence that is done
CLOSE_SECONDS = 10.0


@dataclass(kw_only=True, eq=False)
class _Batch:
    """One generate call while it is under way."""

    sampling: SamplingConfig
    size: int
    done: "asyncio.Future[list[Completed]]"
    completed: dict[int, Completed] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class _Running:
    """One request whose samples are being generated; ``left`` of them are not done."""

    batch: _Batch
    row: int
    request: Request
    draws: list[Draw]
    left: int
    spans: list[tuple[int, int]]  # as of a sequence that is endless
    begun_at: float  # progress at its first token
    started: float

    def num_tokens(self, progress: float) -> int:
        """Tokens of each of its sequences that is not done."""
        return max(0, math.floor(progress - self.begun_at + NEARLY))


@dataclass(kw_only=True, eq=False)
class _Update:
    manifest: "WeightsManifest"
    in_flight: bool
    abort: bool
    asked: float
    done: "asyncio.Future[WeightsEcho]"


class SimulatedEngine:
    """Both faces of it, to be used one or the other: coroutines of one loop, or the synchronous ``Engine`` protocol."""

    def __init__(
        self,
        config: SimulatedEngineConfig,
        *,
        version: PolicyVersion,
        label: str,
        seed: int = 0,
        clock: Clock | None = None,
        items: Iterable[Item] = (),
        role: str = "policy",
        name: str = "simulated-engine",
        log: Path | None = None,
        deadline_seconds: float = 600.0,
    ) -> None:
        """``items`` are those whose right answers it knows. ``log``: a file that gets one line a request (JSON), before
        it is begun; several engines may share it. The deadline is of one synchronous call, by the real clock."""
        self.version, self.label = version, label
        self._labels = {version.packed: label}
        self._config, self._seed, self._role, self._name = config, seed, role, name
        self._clock = clock or RealClock()
        self._items = {item.id: item for item in items}
        self._log = -1 if log is None else os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._deadline_seconds = deadline_seconds
        self._waiting: deque[tuple[_Batch, int, Request]] = deque()
        self._running: set[_Running] = set()
        self._heap: list[tuple[float, int, _Running]] = []  # one entry a sequence, by the progress at which it is done
        self._progress = 0.0  # tokens that a sequence which ran all the time would have
        self._numbers = itertools.count()
        self._updates: deque[_Update] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._nap: asyncio.Future[None] | None = None
        self._closed = False
        self._cause = ""  # why it has ended
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # of the synchronous calls
        self._thread: threading.Thread | None = None

    # Coroutines of one loop

    async def generate_async(
        self, requests: pa.Table, sampling: SamplingConfig, shelf: MediaShelf | None = None
    ) -> pa.Table:
        """Requests (``REQUEST_SCHEMA``) → Trace table; a cancelled call leaves the engine at once. Images are not
        looked at."""
        rows = read_requests(requests, sampling)
        self._raise_if_ended()
        if not rows:
            return completed_table([], sampling, self._role, self._config)
        self._write_log(rows)
        batch = _Batch(sampling=sampling, size=len(rows), done=asyncio.get_running_loop().create_future())
        self._waiting.extend((batch, row, request) for row, request in enumerate(rows))
        self._wake(self._has_room())
        try:
            completed = await batch.done
        except asyncio.CancelledError:
            self._abandon(batch)
            raise
        return completed_table(completed, sampling, self._role, self._config)

    async def update_weights_async(
        self, manifest: "WeightsManifest", bucket_refs: Sequence[Any], in_flight: bool = False, abort: bool = False
    ) -> WeightsEcho:
        """The manifest's version answers once nothing runs and ``update_seconds`` are over; buckets are not read.

        ``in_flight``: for these seconds what runs stands still, then it goes on under the new version. ``abort``: what
        runs is ended first.
        """
        self._raise_if_ended()
        if len(bucket_refs) != len(manifest.buckets):
            raise WeightUpdateError(
                f"{len(bucket_refs)} buckets for weights {manifest.label} ({manifest.version})",
                f"the manifest's {len(manifest.buckets)}",
                "the update was refused; publish the weights again",
            )
        done: asyncio.Future[WeightsEcho] = asyncio.get_running_loop().create_future()
        self._updates.append(
            _Update(manifest=manifest, in_flight=in_flight, abort=abort, asked=self._clock.monotonic(), done=done)
        )
        self._wake(now=in_flight or abort)
        return await done

    # The Engine protocol

    def generate(self, requests: pa.Table, sampling: SamplingConfig, shelf: MediaShelf) -> pa.Table:
        """As ``generate_async``; images are counted, not looked at."""
        return self._call(self.generate_async(requests, sampling), f"generating for {requests.num_rows} prompts")

    def update_weights(
        self,
        manifest: "WeightsManifest",
        bucket_refs: Sequence[Any],
        in_flight: bool = False,
        abort: bool = False,
        deadlines: Mapping[str, float] | None = None,
    ) -> WeightsEcho:
        """As ``update_weights_async``; it has no phases that could be late."""
        update = self.update_weights_async(manifest, bucket_refs, in_flight, abort)
        return self._call(update, f"taking weights {manifest.label}")

    def health(self) -> EngineHealth:
        return EngineHealth(
            alive=not self._cause,
            version=self.version,
            label=self.label,
            running=len(self._running),
            waiting=len(self._waiting),
            cause=self._cause,
        )

    def close(self) -> None:
        """Every call that waits gets a RoleError. Of an engine without synchronous calls: from its loop."""
        with self._lock:
            if self._closed:
                return
            self._closed, self._cause = True, self._cause or "it was closed"
        if self._loop is None or self._thread is None:
            self._end()
        else:
            self._loop.call_soon_threadsafe(self._end)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=CLOSE_SECONDS)
            if self._thread.is_alive():
                raise DeadlineError(f"the loop of {self._name} did not stop within {CLOSE_SECONDS:.0f} s")
        if self._log >= 0:
            os.close(self._log)

    @staticmethod
    def _live(loop: asyncio.AbstractEventLoop) -> None:
        """The thread of the synchronous calls; nothing is left half done in it."""
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()

    def _call(self, work: Coroutine[Any, Any, Result], what: str) -> Result:
        with self._lock:
            if self._closed:
                work.close()
                raise self._ended()
            if self._loop is None:
                self._loop = self._clock.new_loop()
                self._thread = threading.Thread(target=self._live, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout=self._deadline_seconds)
        except FutureTimeout:
            future.cancel()
            raise DeadlineError(
                f"{self._name} was not done {what} after {self._deadline_seconds:.0f} s", "an answer before that"
            ) from None

    # In the loop

    async def _serve(self) -> None:
        """Goes from event to event (a sequence is done, a request or an update came) while there is something to do."""
        config = self._config
        while self._waiting or self._running or self._updates:
            if self._updates and (not self._running or self._updates[0].in_flight or self._updates[0].abort):
                await self._swap()
                continue
            self._admit()
            step_seconds = config.step_seconds + config.sequence_seconds * len(self._heap)
            began = self._clock.monotonic()
            self._nap = asyncio.ensure_future(
                self._clock.sleep(max(0.0, self._heap[0][0] - self._progress) * step_seconds)
            )
            await asyncio.wait({self._nap})
            self._progress += (self._clock.monotonic() - began) / step_seconds
            self._finish()

    def _admit(self) -> None:
        """Fills the batch in the order of arrival; an update that waits lets nothing new in."""
        while self._waiting and self._has_room():
            batch, row, request = self._waiting[0]
            running = _Running(
                batch=batch, row=row, request=request, draws=draw(self._config, self._seed, request, batch.sampling),
                left=request.num_samples, spans=[(0, self.version.packed)],
                begun_at=self._progress + self._config.prefill_steps, started=self._clock.monotonic(),
            )  # fmt: skip
            self._waiting.popleft()
            self._running.add(running)
            for each in running.draws:
                done_at = running.begun_at + len(each.token_ids)
                heapq.heappush(self._heap, (done_at, next(self._numbers), running))

    def _has_room(self) -> bool:
        """Whether the next request may begin; one with more samples than ever run at once begins alone."""
        if self._updates or not self._waiting:
            return False
        sequences = len(self._heap) + self._waiting[0][2].num_samples
        return not self._heap or sequences <= self._config.max_sequences

    def _finish(self) -> None:
        while self._heap and self._heap[0][0] <= self._progress + NEARLY:
            running = heapq.heappop(self._heap)[2]
            running.left -= 1
            if running.left == 0:
                self._complete(running)
                self._running.discard(running)  # last: whoever is in neither set would never hear of a failure
        if not self._heap:
            self._progress = 0.0  # small numbers stay exact

    def _complete(self, running: _Running) -> None:
        batch = running.batch
        batch.completed[running.row] = Completed(
            request=running.request,
            draws=running.draws,
            texts=answer_texts(self._items, running.request, running.draws),
            spans=running.spans,
            labels=self._labels,
            seconds=self._clock.monotonic() - running.started,
        )
        if len(batch.completed) == batch.size and not batch.done.done():
            batch.done.set_result([batch.completed[row] for row in range(batch.size)])

    async def _swap(self) -> None:
        """Nothing gets a token meanwhile."""
        update = self._updates[0]
        manifest, drained = update.manifest, self._clock.monotonic()
        if update.abort:
            self._end_running()
        await self._clock.sleep(self._config.update_seconds)
        self.version, self.label = manifest.version, manifest.label
        self._labels[self.version.packed] = self.label
        for running in self._running:
            begun = running.num_tokens(self._progress)
            kept = [span for span in running.spans if span[0] < begun]
            running.spans = [*kept, (begun, self.version.packed)]
        self._updates.popleft()
        if not update.done.done():
            update.done.set_result(
                WeightsEcho(
                    version=manifest.version,
                    label=manifest.label,
                    digests=tuple(bucket.digest for bucket in manifest.buckets),
                    seconds={"drain": drained - update.asked, "load": self._clock.monotonic() - drained},
                )
            )

    def _end_running(self) -> None:
        """Every running request is done with what it has."""
        for running in self._running:
            length = running.num_tokens(self._progress)
            running.draws = [each.cut(length) for each in running.draws]
            self._complete(running)
        self._running.clear()
        self._heap.clear()
        self._progress = 0.0

    def _wake(self, now: bool) -> None:
        """Starts the engine if it rests; ``now`` ends its nap before the next sequence is done."""
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._serve(), name=self._name)
            self._pump.add_done_callback(self._stopped)
        elif now and self._nap is not None:
            self._nap.cancel()

    def _abandon(self, batch: _Batch) -> None:
        """Drops what a batch still has waiting or running."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not batch)
        self._running = {running for running in self._running if running.batch is not batch}
        self._heap = [entry for entry in self._heap if entry[2].batch is not batch]
        heapq.heapify(self._heap)
        if self._nap is not None:
            self._nap.cancel()

    def _stopped(self, pump: "asyncio.Task[None]") -> None:
        """Whatever ends the engine reaches every caller as a RoleError."""
        if not pump.cancelled() and (failure := pump.exception()) is not None:
            self._cause = f"{type(failure).__name__}: {failure}"
            self._end()

    def _end(self) -> None:
        futures = [batch.done for batch, *_ in self._waiting]
        futures += [running.batch.done for running in self._running]
        for future in [*futures, *(update.done for update in self._updates)]:
            if not future.done():
                future.set_exception(self._ended())
        self._waiting.clear()
        self._running.clear()
        self._heap.clear()
        self._updates.clear()
        for task in (self._pump, self._nap):
            if task is not None:
                task.cancel()

    def _raise_if_ended(self) -> None:
        if self._cause:
            raise self._ended()

    def _ended(self) -> RoleError:
        return RoleError(f"{self._name} is dead: {self._cause}", "", "start it again")

    def _write_log(self, rows: Sequence[Request]) -> None:
        if self._log < 0:
            return
        lines = (
            json.dumps({"engine": self._name, "item_id": row.item_id, "seed": row.seed, "num_samples": row.num_samples})
            for row in rows
        )
        os.write(self._log, "".join(f"{line}\n" for line in lines).encode())  # one write: whole for any reader
