"""What an engine answers after a weight update: proof of which weights it serves."""

from collections.abc import Mapping
from dataclasses import dataclass

from residency.platform.records import PolicyVersion


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsEcho:
    """The version that now answers, the digest of each bucket as the engine computed it, and seconds by phase.

    Phases: ``drain`` (running requests), ``pull`` (object store), ``verify`` (digests and names), ``load``, ``reset``
    (caches).
    """

    version: PolicyVersion
    label: str
    digests: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())
