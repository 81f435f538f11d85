"""One vLLM engine in this process, stepped in a thread of its own. An actor is a shell around it.

All contact with vLLM happens in the engine thread; other threads hand it commands and wait with a deadline. So health
is answered while it generates, requests come and go at any time, and weights change between two steps. Several ranks
are child processes of this one. A failure of the engine or of a rank ends it: every caller then gets a RoleError with
the cause.
"""

import asyncio
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pyarrow as pa

from residency.actors.engine_batches import Batch, Running
from residency.actors.engine_canary import CANARY_SAMPLING, canary_reading, canary_request, canary_shelf
from residency.actors.engine_config import EngineConfig, EngineHealth, engine_environment
from residency.actors.engine_ranks import EngineRanks
from residency.actors.engine_requests import (
    MediaShelf,
    Request,
    Sampled,
    chat_renderer,
    read_requests,
    to_prompt,
    to_trace_table,
)
from residency.actors.engine_turn import EngineTurn
from residency.actors.engine_update import Update, load_update, wait_for_update
from residency.actors.rank_buckets import pull_buckets
from residency.platform.errors import DeadlineError, ResidencyError, RoleError
from residency.platform.records import PolicyVersion
from residency.platform.sampling import SamplingConfig
from residency.training.update_phases import PhaseClock, phase_deadlines
from residency.training.weight_buckets import WeightsManifest
from residency.training.weights_echo import WeightsEcho

Result = TypeVar("Result")
IDLE_SECONDS = 0.5  # longest sleep of an idle engine thread between looks at its commands


class VllmEngine:
    """``generate``, ``update_weights``, ``health``, ``close``; thread-safe. Raises RoleError where it cannot start.

    A generate call of one group costs what its share of a large call does: many of them may run side by side.
    """

    def __init__(
        self, model_dir: Path, config: EngineConfig, *, version: PolicyVersion, label: str, role: str = "policy"
    ) -> None:
        self._model_dir, self._config, self._role = model_dir, config, role
        self.version, self.label = version, label
        self._labels = {version.packed: label}
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._batches: deque[Batch] = deque()
        self._updates: deque[Update] = deque()
        self._running: dict[str, Running] = {}
        self._running_sequences = 0
        self._next_id = 0
        self._closing = False
        self._turn = EngineTurn(frees=config.sleeps)
        self._at_end = ExitStack()
        self._failure: BaseException | None = None
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, name="vllm-engine", daemon=True)
        self._thread.start()
        self._wait(self._ready, config.start_deadline_seconds, "starting")

    # Verbs, called from any thread

    def generate(self, requests: pa.Table, sampling: SamplingConfig, shelf: MediaShelf) -> pa.Table:
        """Requests (``REQUEST_SCHEMA``) → Trace table, ordered by request, then by sample; deadline of the config."""
        batch = self._begin(requests, sampling, shelf)
        try:
            sampled = self._wait(batch.done, self._config.deadline_seconds, f"generating for {batch.size} prompts")
        except DeadlineError:
            self._tell(lambda: self._abandon(batch))
            raise
        return to_trace_table(sampled, sampling, self._role, self._tokenizer)

    async def generate_async(self, requests: pa.Table, sampling: SamplingConfig, shelf: MediaShelf) -> pa.Table:
        """The same from an event loop; when it is cancelled its sequences leave the engine before the next step."""
        batch = self._begin(requests, sampling, shelf)
        seconds = self._config.deadline_seconds
        try:
            async with asyncio.timeout(seconds):
                sampled = await asyncio.wrap_future(batch.done)
        except TimeoutError:
            self._tell(lambda: self._abandon(batch))
            raise self._late(seconds, f"generating for {batch.size} prompts") from None
        except asyncio.CancelledError:
            self._commands.put(lambda: self._abandon(batch))  # and where the engine is dead nothing is left to leave
            raise
        return await asyncio.to_thread(to_trace_table, sampled, sampling, self._role, self._tokenizer)

    def update_weights(
        self,
        manifest: WeightsManifest,
        bucket_refs: Sequence[Any],
        in_flight: bool = False,
        abort: bool = False,
        deadlines: Mapping[str, float] | None = None,
    ) -> WeightsEcho:
        """Pull, verify, swap, and ask the canary. Once nothing runs: what comes meanwhile waits for the new weights.

        ``in_flight``: between two steps; what runs goes on under the new weights with the keys and values it has.
        ``abort``: what runs is ended between two steps, its traces say so. WeightUpdateError: refused, the old weights
        go on serving. LatePhaseError: a phase came to its deadline (``deadlines``, else shares of the config's); up to
        drain the old weights go on serving, after it the engine is not to be trusted.
        """
        clock = PhaseClock(deadlines or phase_deadlines(self._config.deadline_seconds))
        clock.enter("pull")
        buckets = pull_buckets(manifest, bucket_refs, clock.left())  # while the engine goes on stepping
        clock.enter("drain")
        update = Update(manifest=manifest, buckets=buckets, in_flight=in_flight, abort=abort, clock=clock)
        self._tell(lambda: self._updates.append(update))
        return wait_for_update(update, lambda: self._tell(lambda: self._withdraw(update)))

    def take_turn(self, awake: bool) -> None:
        """Fall asleep once nothing runs any more, or wake up, where the devices are shared in turns."""
        done: Future[None] = Future()
        self._tell(lambda: self._turn.ask(awake, done))
        self._wait(done, self._config.deadline_seconds, "waking up" if awake else "falling asleep")

    def health(self) -> EngineHealth:
        """Answered at once, also while it generates."""
        failure = self._failure
        return EngineHealth(
            alive=failure is None and self._thread.is_alive(),
            version=self.version,
            label=self.label,
            running=len(self._running),
            waiting=sum(len(batch.waiting) for batch in list(self._batches)),
            cause="" if failure is None else f"{type(failure).__name__}: {failure}",
        )

    def close(self) -> None:
        """Stop the thread and the engine; running requests are dropped. Safe to repeat."""
        self._closing = True
        self._commands.put(lambda: None)
        self._thread.join(timeout=60)
        if self._thread.is_alive():
            raise DeadlineError("the engine thread did not stop within 60 s", "", "kill the generator's process")

    # Between threads

    def _begin(self, requests: pa.Table, sampling: SamplingConfig, shelf: MediaShelf) -> Batch:
        rows = read_requests(requests, sampling)
        batch = Batch(sampling=sampling, shelf=shelf, waiting=deque(enumerate(rows)), size=len(rows))
        if rows:
            self._tell(lambda: self._batches.append(batch))
        else:
            batch.done.set_result([])
        return batch

    def _tell(self, command: Callable[[], None]) -> None:
        if self._failure is not None or not self._thread.is_alive():
            raise self._dead()
        self._commands.put(command)

    def _wait(self, future: Future[Result], seconds: float, what: str) -> Result:
        try:
            return future.result(timeout=seconds)
        except FutureTimeout:
            raise self._late(seconds, what) from None

    def _late(self, seconds: float, what: str) -> DeadlineError:
        return DeadlineError(
            f"the engine of {self._model_dir.name} was not done {what} after {seconds:.0f} s",
            "an answer before the deadline",
            "raise deadline_seconds in the profile, or give the generator more CPUs",
        )

    def _dead(self) -> RoleError:
        cause = self._failure
        said = "it was closed" if cause is None else f"{type(cause).__name__}: {cause}"
        error = RoleError(
            f"the engine of {self._model_dir.name} is dead: {said}", "", "start the generator again; see its log"
        )
        error.__cause__ = cause
        return error

    # In the engine thread

    def _serve(self) -> None:
        try:
            self._start()
            self._ready.set_result(None)
            self._work()
        except Exception as error:  # the boundary: whatever ends the engine reaches every caller as a RoleError
            self._failure = error
        self._fail_all()
        self._at_end.close()

    def _work(self) -> None:
        try:
            while not self._closing:
                self._obey()
                if not self._running:
                    self._turn.settle(self._engine)
                if self._updates and self._turn.works and not (self._running and self._updates[0].waits):
                    self._swap(self._updates[0])
                    self._updates.popleft()
                elif not self._updates and self._turn.works:  # where one waits for the running ones, nothing new comes
                    self._admit()
                if self._running:
                    self._step()
                self._check_ranks()
        except RuntimeError as error:  # vLLM says no more than "cancelled" where a rank has died
            self._check_ranks(error)
            raise

    def _check_ranks(self, cause: RuntimeError | None = None) -> None:
        lost = self._ranks.lost()
        if lost:
            raise RoleError(
                lost, f"all {self._config.tensor_parallel} ranks alive", "see the generator's log for its last words"
            ) from cause

    def _fail_all(self) -> None:
        for future in [
            self._ready,
            *(running.batch.done for running in self._running.values()),
            *(batch.done for batch in self._batches),
            *(update.done for update in self._updates),
        ]:
            _fail(future, self._dead())
        self._turn.fail(self._dead())

    def _start(self) -> None:
        os.environ.update(engine_environment(self._config.threads))
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # whole GiB only, and it would override ours
        from vllm.exceptions import VLLMValidationError

        from residency.actors import engine_steps
        from residency.actors.engine_setup import sampling_params, start_engine

        self._sampling_params, self._steps = sampling_params, engine_steps
        self._engine = start_engine(self._model_dir, self._config)
        self._steps.name_weights(self._engine, self.version)
        self._ranks = EngineRanks(self._engine)
        self._at_end.callback(self._ranks.end)
        self._tokenizer = self._engine.get_tokenizer()
        self._chat = chat_renderer(self._tokenizer)
        self._canary_shelf = canary_shelf(self._engine.vllm_config.model_config.is_multimodal_model)
        self._refusal = VLLMValidationError

    def _obey(self) -> None:
        """Run the commands that came; an idle engine waits a moment for one."""
        busy = bool(self._running or (self._turn.works and (self._batches or self._updates)))
        try:
            command = self._commands.get(block=not busy, timeout=None if busy else IDLE_SECONDS)
            while True:
                command()
                command = self._commands.get_nowait()
        except queue.Empty:
            return

    def _admit(self) -> None:
        """Fill the engine up to its number of sequences and one more request, so that it never runs short."""
        while self._batches and self._running_sequences <= self._config.max_sequences:
            if self._batches[0].waiting:
                self._enter(self._batches[0])
            else:
                self._batches.popleft()

    def _enter(self, batch: Batch) -> None:
        """The next request of a batch enters vLLM."""
        row, request = batch.waiting.popleft()
        try:
            prompt = to_prompt(request, self._chat(request), batch.shelf, self.version)
            parameters = self._sampling_params(request, batch.sampling)
        except (ResidencyError, ValueError, self._refusal) as error:  # its caller's affair, not the engine's end
            self._abandon(batch)
            _fail(batch.done, self._refused(request, error))
            return
        name = f"{self._next_id}"
        try:
            # the chat template has written what opens a text: tokenizers like Llama's would add it again
            plain = {"add_special_tokens": False}
            self._engine.add_request(name, cast(Any, prompt), parameters, tokenization_kwargs=plain)
        except (ValueError, self._refusal) as error:  # too long, most often: one bad row is not a million's end
            self._finish(batch, row, request, None, 0.0, str(self._refused(request, error)))
            return
        self._next_id += 1
        self._running_sequences += request.num_samples
        self._running[name] = Running(batch=batch, row=row, request=request, started=time.perf_counter())

    @staticmethod
    def _refused(request: Request, error: Exception) -> ResidencyError:
        if isinstance(error, ResidencyError):
            return error
        return RoleError(
            f"the engine refused the request of item {request.item_id}: {error}",
            "a request within the limits of the model and of vLLM",
            "change what it names: a shorter prompt or a higher student.max_prompt_tokens, another temperature",
        )

    def _step(self) -> None:
        for output in self._engine.step():
            if not output.finished:
                continue
            self._end(output.request_id, output)

    def _end(self, name: str, output: Any) -> None:
        running = self._running.pop(name, None)
        if running is None:
            return  # its caller left
        self._running_sequences -= running.request.num_samples
        self._finish(running.batch, running.row, running.request, output, time.perf_counter() - running.started)

    def _finish(self, batch: Batch, row: int, request: Request, output: Any, seconds: float, refusal: str = "") -> None:
        """One row is done; the last one hands the batch over."""
        batch.finished[row] = Sampled(
            request=request, output=output, version=self.version, labels=self._labels, seconds=seconds, refusal=refusal
        )
        if len(batch.finished) == batch.size:
            _answer(batch.done, [batch.finished[row] for row in range(batch.size)])

    def _abandon(self, batch: Batch) -> None:
        """Drop what a batch still has waiting or running."""
        batch.waiting.clear()
        for name in [name for name, running in self._running.items() if running.batch is batch]:
            self._steps.end_early(self._engine, name)
            self._running_sequences -= self._running.pop(name).request.num_samples

    def _swap(self, update: Update) -> None:
        """Between two steps; a refused update changes nothing."""
        with self._steps.standing_still(self._engine, self._step):
            told = load_update(
                self._engine,
                update,
                self._config.tensor_parallel,
                before=lambda: self._end_running() if update.abort else None,
                after=lambda: self._renew(update.manifest),
            )
        if isinstance(told, WeightsEcho):
            update.loaded = told
            row = canary_request(self._canary_shelf)
            batch = Batch(sampling=CANARY_SAMPLING, shelf=self._canary_shelf, waiting=deque([(0, row)]), size=1)
            batch.done.add_done_callback(lambda done: self._end_update(update, told, done))
            self._enter(batch)  # ahead of all that waits outside of vLLM
        else:
            _fail(update.done, told)

    @staticmethod
    def _end_update(update: Update, told: WeightsEcho, canary: Future[list[Sampled]]) -> None:
        if (error := canary.exception()) is not None:
            _fail(update.done, error)
            return
        update.clock.enter("")
        reading = canary_reading(canary.result()[0])
        _answer(update.done, replace(told, canary=reading, seconds=dict(update.clock.seconds)))

    def _withdraw(self, update: Update) -> None:
        """One that was too long in drain: nobody waits for it, and nothing is held up by it."""
        if update in self._updates:
            self._updates.remove(update)

    def _end_running(self) -> None:
        for name in list(self._running):
            self._end(name, self._steps.end_early(self._engine, name))

    def _renew(self, manifest: WeightsManifest) -> None:
        self.version, self.label = manifest.version, manifest.label
        self._labels[self.version.packed] = self.label
        self._steps.forget_old_weights(self._engine, self.version)
        self._steps.name_weights(self._engine, self.version)


def _answer(future: Future[Result], value: Result) -> None:
    """Unless its caller has left, or something has failed before."""
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_result(value)


def _fail(future: Future[Any], error: BaseException) -> None:
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_exception(error)
