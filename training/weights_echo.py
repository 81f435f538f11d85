"""What an engine answers after a weight update: proof of which weights it serves."""

from collections.abc import Mapping
from dataclasses import dataclass

from residency.platform.records import PolicyVersion
from residency.training.canary import CanaryReading


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsEcho:
    """The version that now answers, the digest of each bucket as the engine computed it, and seconds by phase.

    Phases: ``pull`` (object store), ``drain`` (running requests), ``verify`` (digests and names), ``load``, ``reset``
    (caches), ``canary``. The canary is what the new weights said to the fixed prompt; None where it could not be asked
    or had not answered before its deadline.
    """

    version: PolicyVersion
    label: str
    digests: tuple[str, ...]
    seconds: Mapping[str, float]
    canary: CanaryReading | None = None

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())
