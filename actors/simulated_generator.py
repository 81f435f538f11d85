"""One simulated engine in an actor of its own: a generator without a model that can be killed as a real one can."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from residency.actors.engine_config import EngineHealth
from residency.actors.simulated_answers import SimulatedEngineConfig
from residency.actors.simulated_engine import SimulatedEngine
from residency.platform.arrow_tables import from_table
from residency.platform.placement import actor_options
from residency.platform.profiles import RoleConfig
from residency.platform.records import Item, PolicyVersion
from residency.platform.sampling import SamplingConfig
from residency.training.weights_echo import WeightsEcho

if TYPE_CHECKING:  # it imports torch
    from residency.training.weight_buckets import WeightsManifest

MAX_CONCURRENCY = 1000  # as the real generator's


class SimulatedGeneratorActor:
    """The verbs of a GeneratorActor. Buckets and images are taken, and not looked at."""

    def __init__(self, config: SimulatedEngineConfig, label: str, seed: int, items: pa.Table) -> None:
        version = PolicyVersion(incarnation=0, step=0)
        known = from_table(items, Item)
        self._engine = SimulatedEngine(config, version=version, label=label, seed=seed, items=known)

    async def generate(self, requests: pa.Table, sampling: SamplingConfig) -> pa.Table:
        """Requests (``engine_requests.REQUEST_SCHEMA``) → Trace table, ordered by request, then by sample."""
        return await self._engine.generate_async(requests, sampling)

    async def update_weights(
        self,
        manifest: "WeightsManifest",
        bucket_refs: "Sequence[ray.ObjectRef[Any]]",
        in_flight: bool = False,
        abort: bool = False,
        deadlines: Mapping[str, float] | None = None,
    ) -> WeightsEcho:
        """Pulls every bucket, as a real engine does, then takes the version on; it has no phases that could be late."""
        for bucket in bucket_refs:
            await bucket
        return await self._engine.update_weights_async(manifest, bucket_refs, in_flight, abort)

    async def load_media(self, media: pa.Table) -> int:
        """The number of images; nothing is kept."""
        return media.num_rows

    async def policy_version(self) -> PolicyVersion:
        """The weights that answer the next request."""
        return self._engine.version

    async def health(self) -> EngineHealth:
        """At once."""
        return self._engine.health()

    async def close(self) -> None:
        """Ends the engine."""
        self._engine.close()


def start_simulated_generator(
    config: SimulatedEngineConfig,
    *,
    items: Any,
    placement: RoleConfig | None = None,
    label: str = "base",
    seed: int = 0,
    **options: Any,
) -> Any:
    """Handle of a new one. ``items``: reference to the Item table whose answers it knows; ``options`` are Ray's."""
    placed = {} if placement is None else actor_options(placement)
    return (
        ray.remote(SimulatedGeneratorActor)
        .options(**{"max_concurrency": MAX_CONCURRENCY, **placed, **options})
        .remote(config, label, seed, items)
    )
