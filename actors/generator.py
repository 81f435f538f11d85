"""The generator: prompts in, an Arrow table of traces out. A thin actor around one vLLM engine."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from residency.actors.engine_config import EngineConfig, EngineHealth, engine_environment
from residency.actors.engine_requests import MediaShelf
from residency.actors.vllm_engine import VllmEngine
from residency.platform.placement import actor_options
from residency.platform.profiles import GeneratorConfig
from residency.platform.records import PolicyVersion
from residency.platform.sampling import SamplingConfig
from residency.training.weight_buckets import WeightsManifest
from residency.training.weights_echo import WeightsEcho

MAX_CONCURRENCY = 1000  # calls at once: a group each, an update, and health beside them


class GeneratorActor:
    """Its verbs are coroutines: many calls run together, health answers beside them, and ``ray.cancel`` ends a call."""

    def __init__(self, model_dir: str, config: EngineConfig, version: PolicyVersion, label: str, role: str) -> None:
        self._engine = VllmEngine(Path(model_dir), config, version=version, label=label, role=role)
        self._shelf = MediaShelf(None)

    async def generate(self, requests: pa.Table, sampling: SamplingConfig) -> pa.Table:
        """Requests (``engine_requests.REQUEST_SCHEMA``) → Trace table, ordered by request, then by sample.

        A cancelled call's sequences leave the engine at once.
        """
        return await self._engine.generate_async(requests, sampling, self._shelf)

    async def update_weights(
        self,
        manifest: WeightsManifest,
        bucket_refs: "Sequence[ray.ObjectRef[Any]]",
        in_flight: bool = False,
        abort: bool = False,
        deadlines: Mapping[str, float] | None = None,
    ) -> WeightsEcho:
        """Pull, verify, swap, ask the canary; WeightUpdateError where refused (the old weights go on serving).

        Once nothing runs, or with ``in_flight`` or ``abort`` between two steps: what runs goes on, or is ended.
        ``deadlines`` are of each phase (seconds; absent: shares of the engine's); LatePhaseError names the late one.
        """
        return await asyncio.to_thread(self._engine.update_weights, manifest, bucket_refs, in_flight, abort, deadlines)

    async def load_media(self, media: pa.Table) -> int:
        """Set the media table (``media_store.MEDIA_SCHEMA``; pass its reference); the number of images."""
        self._shelf = MediaShelf(media)
        return len(self._shelf)

    async def policy_version(self) -> PolicyVersion:
        """The weights that answer the next request."""
        return self._engine.version

    async def take_turn(self, awake: bool) -> None:
        """Fall asleep once nothing runs, or wake up, where its devices are shared with the learner in turns."""
        await asyncio.to_thread(self._engine.take_turn, awake)

    async def health(self) -> EngineHealth:
        """At once, also while it generates or takes weights."""
        return self._engine.health()

    async def close(self) -> None:
        """Stop the engine; the actor then only says that it is closed."""
        await asyncio.to_thread(self._engine.close)


def start_generator(
    model_dir: Path,
    config: EngineConfig,
    *,
    placement: GeneratorConfig | None = None,
    version: PolicyVersion | None = None,
    label: str = "base",
    role: str = "policy",
    **options: Any,
) -> Any:
    """Handle of a new generator; its engine is up when ``health`` first answers.

    ``placement`` gives CPUs (of each rank where there is no GPU), GPUs and labels; ``options`` are further Ray actor
    options and override them.
    """
    placed = {} if placement is None else actor_options(placement)
    return (
        ray.remote(GeneratorActor)
        .options(
            **{
                "max_concurrency": MAX_CONCURRENCY,
                "runtime_env": {"env_vars": engine_environment(config.threads)},
                **placed,
                **options,
            }
        )
        .remote(str(model_dir), config, version or PolicyVersion(incarnation=0, step=0), label, role)
    )
