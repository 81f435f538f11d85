"""What an engine is to the generator around it: vLLM's and the simulated one are such."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from residency.actors.engine_config import EngineHealth
from residency.actors.engine_requests import MediaShelf
from residency.platform.records import PolicyVersion
from residency.platform.sampling import SamplingConfig
from residency.training.weights_echo import WeightsEcho

if TYPE_CHECKING:  # it imports torch, which not every engine needs
    from residency.training.weight_buckets import WeightsManifest


class Engine(Protocol):
    """Thread-safe. ``version`` and ``label`` are of the weights that answer the next request.

    An engine that has ended raises RoleError with the cause, a wait that came to its deadline DeadlineError.
    """

    version: PolicyVersion
    label: str

    def generate(self, requests: pa.Table, sampling: SamplingConfig, shelf: MediaShelf) -> pa.Table:
        """Requests (``engine_requests.REQUEST_SCHEMA``) → Trace table, ordered by request, then by sample."""
        ...

    async def generate_async(self, requests: pa.Table, sampling: SamplingConfig, shelf: MediaShelf) -> pa.Table:
        """The same; when it is cancelled its sequences leave the engine at once. Any number of calls run together."""
        ...

    def update_weights(
        self,
        manifest: "WeightsManifest",
        bucket_refs: Sequence[Any],
        in_flight: bool = False,
        abort: bool = False,
        deadlines: Mapping[str, float] | None = None,
    ) -> WeightsEcho:
        """Swap the weights; WeightUpdateError where refused (the old weights go on serving).

        ``deadlines``: seconds of each phase (``update_phases.IN_ENGINE``); shares of its own where absent.

        Once nothing runs; with ``in_flight`` between two steps: what runs goes on under the new weights, with the keys
        and values that the old ones computed. With ``abort`` what runs is ended first: its traces hold what was sampled
        so far and say ``abort``.
        """
        ...

    def health(self) -> EngineHealth:
        """At once, also while it generates or takes weights."""
        ...

    def close(self) -> None:
        """Stop; running requests are dropped. Safe to repeat."""
        ...
