"""One vLLM engine in this process, stepped in a thread of its own. No Ray: an actor is a shell around it.

All contact with vLLM happens in the engine thread; other threads hand it commands and wait with a deadline. So health
is answered while it generates, and weights change between two steps. A failure of the engine ends it: every caller
then gets a RoleError with the cause.
"""

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import pyarrow as pa

from residency.actors.engine_config import EngineConfig, EngineHealth, engine_environment
from residency.actors.engine_requests import (
    MediaShelf,
    Request,
    Sampled,
    chat_renderer,
    read_requests,
    to_prompt,
    to_trace_table,
)
from residency.platform.errors import DeadlineError, ResidencyError, RoleError
from residency.platform.records import PolicyVersion
from residency.platform.sampling import SamplingConfig
from residency.training.weight_buckets import WeightsManifest
from residency.training.weights_echo import WeightsEcho

Result = TypeVar("Result")
IDLE_SECONDS = 0.5  # longest sleep of an idle engine thread between looks at its commands


@dataclass(kw_only=True)
class _Batch:
    """One generate call while it is under way."""

    sampling: SamplingConfig
    shelf: MediaShelf
    waiting: deque[tuple[int, Request]]
    finished: dict[int, Sampled] = field(default_factory=dict)
    done: Future[list[Sampled]] = field(default_factory=Future)
    size: int


@dataclass(kw_only=True)
class _Running:
    """One request that is in the engine."""

    batch: _Batch
    row: int
    request: Request
    version: PolicyVersion
    label: str
    started: float


@dataclass(kw_only=True)
class _Update:
    """A weight update that waits until nothing runs."""

    manifest: WeightsManifest
    bucket_refs: Sequence[Any]
    asked: float
    deadline: float
    done: Future[WeightsEcho] = field(default_factory=Future)


class VllmEngine:
    """``generate``, ``update_weights``, ``health``, ``close``; thread-safe. Raises RoleError where it cannot start."""

    def __init__(
        self, model_dir: Path, config: EngineConfig, *, version: PolicyVersion, label: str, role: str = "policy"
    ) -> None:
        if config.tensor_parallel != 1:
            raise RoleError(
                f"an engine of {config.tensor_parallel} ranks was asked for",
                "tensor_parallel 1: more ranks are not built yet",
                "set generators.tensor_parallel to 1 in the profile",
            )
        self._model_dir, self._config, self._role = model_dir, config, role
        self.version, self.label = version, label
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._batches: deque[_Batch] = deque()
        self._updates: deque[_Update] = deque()
        self._running: dict[str, _Running] = {}
        self._running_sequences = 0
        self._next_id = 0
        self._closing = False
        self._failure: BaseException | None = None
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, name="vllm-engine", daemon=True)
        self._thread.start()
        self._wait(self._ready, config.start_deadline_seconds, "starting")

    # Verbs, called from any thread

    def generate(self, requests: pa.Table, sampling: SamplingConfig, shelf: MediaShelf) -> pa.Table:
        """Requests (``REQUEST_SCHEMA``) → Trace table, ordered by request, then by sample; deadline of the config."""
        rows = read_requests(requests, sampling)
        batch = _Batch(sampling=sampling, shelf=shelf, waiting=deque(enumerate(rows)), size=len(rows))
        if not rows:
            return to_trace_table([], sampling, self._role, self._tokenizer)
        self._tell(lambda: self._batches.append(batch))
        try:
            sampled = self._wait(batch.done, self._config.deadline_seconds, f"generating for {len(rows)} prompts")
        except DeadlineError:
            self._tell(lambda: self._abandon(batch))
            raise
        return to_trace_table(sampled, sampling, self._role, self._tokenizer)

    def update_weights(self, manifest: WeightsManifest, bucket_refs: Sequence[Any]) -> WeightsEcho:
        """Swap the weights once nothing runs; requests that come meanwhile wait and get the new ones.

        WeightUpdateError or DeadlineError: refused, the old weights go on serving.
        """
        seconds, now = self._config.deadline_seconds, time.perf_counter()
        update = _Update(manifest=manifest, bucket_refs=bucket_refs, asked=now, deadline=now + seconds)
        self._tell(lambda: self._updates.append(update))
        return self._wait(update.done, seconds + IDLE_SECONDS, f"taking weights {manifest.label} ({manifest.version})")

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

    def _tell(self, command: Callable[[], None]) -> None:
        if self._failure is not None or not self._thread.is_alive():
            raise self._dead()
        self._commands.put(command)

    def _wait(self, future: Future[Result], seconds: float, what: str) -> Result:
        try:
            return future.result(timeout=seconds)
        except FutureTimeout:
            raise DeadlineError(
                f"the engine of {self._model_dir.name} was not done {what} after {seconds:.0f} s",
                "an answer before the deadline",
                "raise deadline_seconds in the profile, or give the generator more CPUs",
            ) from None

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
            while not self._closing:
                self._obey()
                if not self._running and self._updates:
                    self._swap(self._updates.popleft())
                elif not self._updates:  # an update waits for the running ones: nothing new is admitted
                    self._admit()
                if self._running:
                    self._step()
            self._engine.engine_core.shutdown()
        except Exception as error:  # the boundary: whatever ends the engine reaches every caller as a RoleError
            self._failure = error
        self._fail_all()

    def _fail_all(self) -> None:
        for future in [
            self._ready,
            *(running.batch.done for running in self._running.values()),
            *(batch.done for batch in self._batches),
            *(update.done for update in self._updates),
        ]:
            if not future.done():
                future.set_exception(self._dead())

    def _start(self) -> None:
        os.environ.update(engine_environment(self._config.threads))
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # whole GiB only, and it would override ours
        import torch
        from vllm import EngineArgs, SamplingParams
        from vllm.exceptions import VLLMValidationError
        from vllm.platforms import current_platform
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.llm_engine import LLMEngine

        from residency.actors import ray_object_store
        from residency.actors.media_ban import MEDIA_TOKEN_BAN

        config = self._config
        ray_object_store.register()
        on_cpu = current_platform.is_cpu()
        if on_cpu:
            torch.set_num_threads(config.threads)
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=str(self._model_dir),
                dtype=config.dtype,  # pyright: ignore[reportArgumentType] (vLLM checks the name)
                max_model_len=config.max_model_len,
                max_num_seqs=config.max_sequences,
                max_num_batched_tokens=max(config.max_batch_tokens, config.max_model_len),
                block_size=config.block_size if on_cpu else None,
                kv_cache_memory_bytes=int(config.kv_cache_gib * 1024**3) if on_cpu else None,
                gpu_memory_utilization=config.gpu_memory_share,
                mm_processor_cache_gb=config.image_cache_gib,
                limit_mm_per_prompt={"image": config.images_per_prompt, "video": 0},
                enforce_eager=on_cpu,
                # A prompt cut into chunks makes vLLM set a seeded generator back, which torch's CPU generators refuse.
                enable_chunked_prefill=not on_cpu,
                enable_prefix_caching=True,
                logprobs_mode="processed_logprobs",
                logits_processors=[MEDIA_TOKEN_BAN],
                weight_transfer_config={"backend": ray_object_store.BACKEND},  # pyright: ignore[reportArgumentType]
                trust_remote_code=config.trust_remote_code,
                disable_log_stats=True,
            )
        )
        self._engine.collective_rpc("init_weight_transfer_engine", args=({},))
        logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)  # it repeats itself for every image
        self._tokenizer = self._engine.get_tokenizer()
        self._chat = chat_renderer(self._tokenizer)
        self._refusal = VLLMValidationError
        self._make_params: Callable[[Request, SamplingConfig], SamplingParams] = lambda request, sampling: (
            SamplingParams(
                n=request.num_samples,  # vLLM draws sample k with seed + k
                seed=request.seed,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=sampling.max_new_tokens,
                logprobs=0,  # the sampled token's alone
                flat_logprobs=True,
                detokenize=False,  # once for the whole batch, at its end
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        )

    def _obey(self) -> None:
        """Run the commands that came; an idle engine waits a moment for one."""
        busy = bool(self._running or self._batches or self._updates)
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
            batch = self._batches[0]
            if not batch.waiting:
                self._batches.popleft()
                continue
            row, request = batch.waiting.popleft()
            try:
                prompt = to_prompt(request, self._chat(request), batch.shelf, self.version)
                name = f"{self._next_id}"
                self._engine.add_request(name, cast(Any, prompt), self._make_params(request, batch.sampling))
            except (
                ResidencyError,
                ValueError,
                self._refusal,
            ) as error:  # a bad request is its caller's affair, not the engine's end
                self._abandon(batch)
                batch.done.set_exception(self._refused(request, error))
                continue
            self._next_id += 1
            self._running_sequences += request.num_samples
            self._running[name] = _Running(
                batch=batch,
                row=row,
                request=request,
                version=self.version,
                label=self.label,
                started=time.perf_counter(),
            )

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
            running = self._running.pop(output.request_id, None)
            if running is None:
                continue  # its caller left
            self._running_sequences -= running.request.num_samples
            batch = running.batch
            batch.finished[running.row] = Sampled(
                request=running.request,
                output=output,  # pyright: ignore[reportArgumentType] (no pooling model here)
                version=running.version,
                label=running.label,
                seconds=time.perf_counter() - running.started,
            )
            if len(batch.finished) == batch.size and not batch.done.done():
                batch.done.set_result([batch.finished[row] for row in range(batch.size)])

    def _abandon(self, batch: _Batch) -> None:
        """Drop what a batch still has waiting or running."""
        batch.waiting.clear()
        names = [name for name, running in self._running.items() if running.batch is batch]
        if names:
            self._engine.abort_request(names)
        for name in names:
            self._running_sequences -= self._running.pop(name).request.num_samples

    def _swap(self, update: _Update) -> None:
        """vLLM's life cycle of a weight update, then the caches that stood on the old weights."""
        manifest = update.manifest
        drained = time.perf_counter()
        phases: dict[str, float] = {"drain": drained - update.asked}
        if drained > update.deadline:
            update.done.set_exception(
                DeadlineError(
                    f"running requests did not end before the deadline of weights {manifest.label}",
                    "an idle engine",
                    "raise deadline_seconds in the profile; the old weights go on serving",
                )
            )
            return
        info = {
            "manifest": manifest,
            "bucket_refs": update.bucket_refs,
            "deadline_seconds": update.deadline - drained,
            "seconds": phases,
        }
        self._engine.collective_rpc("start_weight_update")
        try:
            self._engine.collective_rpc("update_weights", args=(info,))
        except (DeadlineError, RoleError) as error:  # raised before the first tensor was touched
            update.done.set_exception(error)
            return
        finishing = time.perf_counter()
        self._engine.collective_rpc("finish_weight_update")
        loaded = time.perf_counter()
        phases["load"] += loaded - finishing
        if not self._engine.reset_prefix_cache():
            raise RoleError("vLLM kept its prefix cache after a weight update", "an empty cache: nothing was running")
        self._engine.reset_encoder_cache()
        self._engine.set_weight_version(str(manifest.version))
        self.version, self.label = manifest.version, manifest.label
        phases["reset"] = time.perf_counter() - loaded
        update.done.set_result(
            WeightsEcho(
                version=manifest.version,
                label=manifest.label,
                digests=tuple(bucket.digest for bucket in manifest.buckets),
                seconds=dict(phases),
            )
        )
