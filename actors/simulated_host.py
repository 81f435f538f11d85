"""Many simulated engines in one process, as a Ray actor: a generator costs a call, not a process.

host = start_simulated_host(64, load_simulated_config(), seed=0)
generators = simulated_generators(host, 64)          # each is called as a GeneratorActor's handle is
traces = generators[3].generate.remote(requests, sampling)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from residency.actors.engine_config import EngineHealth
from residency.actors.simulated_answers import SimulatedEngineConfig
from residency.actors.simulated_engine import SimulatedEngine
from residency.platform.arrow_tables import from_table
from residency.platform.profiles import RoleConfig
from residency.platform.records import Item, PolicyVersion
from residency.platform.sampling import SamplingConfig
from residency.training.weights_echo import WeightsEcho

if TYPE_CHECKING:
    from residency.training.weight_buckets import WeightsManifest

CALLS_AN_ENGINE = 8  # at once: as many as a real generator takes


class SimulatedHostActor:
    """Engines by index; all share the actor's loop, its process and its death."""

    def __init__(
        self,
        num_engines: int,
        config: SimulatedEngineConfig,
        version: PolicyVersion,
        label: str,
        seed: int,
        items: pa.Table | None,
        log: str | None,
    ) -> None:
        known = [] if items is None else from_table(items, Item)
        self._engines = [
            SimulatedEngine(
                config,
                version=version,
                label=label,
                seed=seed,
                items=known,
                name=f"simulated-engine-{index}",
                log=None if log is None else Path(log),
            )
            for index in range(num_engines)
        ]

    async def generate(self, index: int, requests: pa.Table, sampling: SamplingConfig) -> pa.Table:
        """Requests (``engine_requests.REQUEST_SCHEMA``) → Trace table, ordered by request, then by sample."""
        return await self._engines[index].generate_async(requests, sampling)

    async def update_weights(
        self,
        index: int,
        manifest: "WeightsManifest",
        bucket_refs: "Sequence[ray.ObjectRef[Any]]",
        in_flight: bool = False,
        abort: bool = False,
    ) -> WeightsEcho:
        """Takes the version on without pulling a bucket; WeightUpdateError where their number is wrong."""
        return await self._engines[index].update_weights_async(manifest, bucket_refs, in_flight, abort)

    async def load_media(self, index: int, media: pa.Table) -> int:
        """The number of images; nothing is kept."""
        return media.num_rows

    async def policy_version(self, index: int) -> PolicyVersion:
        """The weights that answer the next request."""
        return self._engines[index].version

    async def health(self, index: int) -> EngineHealth:
        """At once."""
        return self._engines[index].health()

    async def close(self, index: int) -> None:
        """Ends one engine; the others go on."""
        self._engines[index].close()


class _Verb:
    """One verb of one engine, called as an actor's method is."""

    def __init__(self, method: Any, index: int) -> None:
        self._method, self._index = method, index

    def remote(self, *args: Any, **options: Any) -> Any:
        return self._method.remote(self._index, *args, **options)

    def options(self, **options: Any) -> "_Verb":
        return _Verb(self._method.options(**options), self._index)


class SimulatedGenerator:
    """One engine of a host, used as a GeneratorActor's handle is; it lives and dies with the actor ``host``."""

    def __init__(self, host: Any, index: int) -> None:
        self.host, self.index = host, index
        self.generate = _Verb(host.generate, index)
        self.update_weights = _Verb(host.update_weights, index)
        self.load_media = _Verb(host.load_media, index)
        self.policy_version = _Verb(host.policy_version, index)
        self.health = _Verb(host.health, index)
        self.close = _Verb(host.close, index)


def simulated_generators(host: Any, num_engines: int) -> list[SimulatedGenerator]:
    """The engines of a host, in order."""
    return [SimulatedGenerator(host, index) for index in range(num_engines)]


def start_simulated_host(
    num_engines: int,
    config: SimulatedEngineConfig,
    *,
    placement: RoleConfig | None = None,
    version: PolicyVersion | None = None,
    label: str = "base",
    seed: int = 0,
    items: pa.Table | None = None,
    log: Path | None = None,
    **options: Any,
) -> Any:
    """Handle of a new host. ``items`` (an Item table, or a reference to one) are those whose answers its engines know;
    ``log`` is a file that gets one line a request; ``options`` are further Ray actor options."""
    placed: dict[str, Any] = {}
    if placement is not None:
        placed = {"num_cpus": placement.cpus}
        if placement.labels:
            placed["label_selector"] = placement.labels
    start = version or PolicyVersion(incarnation=0, step=0)
    return (
        ray.remote(SimulatedHostActor)
        .options(**{"max_concurrency": CALLS_AN_ENGINE * num_engines, **placed, **options})
        .remote(num_engines, config, start, label, seed, items, None if log is None else str(log))
    )
