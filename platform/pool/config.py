"""What a pool of workers may do: how many, how much in flight, how long to wait."""

from dataclasses import dataclass

from residency.platform.errors import BadInputError


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolConfig:
    """Bounds of one pool; BadInputError where they contradict each other."""

    role: str
    """Name of the role; workers are called ``<role>-<number>``."""
    minimum: int = 1
    """Workers that are always kept."""
    maximum: int = 1
    """Workers at most."""
    requests_per_worker: int = 1
    """Requests in flight in one worker at most."""
    max_bytes: int | None = None
    """Bytes in flight in the whole pool at most; None means no bound. A request above it travels alone."""
    idle_seconds: float = 60.0
    """A worker above the minimum leaves after so long without a request."""
    grace_seconds: float = 30.0
    """A leaver may work so long on what it has; then its requests are given back."""
    deadline_seconds: float = 900.0
    """A call's deadline in its worker, where the caller gives none."""
    start_seconds: float = 600.0
    """Until a new worker is up, waiting for its node included; as long again to prepare it."""
    health_seconds: float = 3.0
    """Between health probes of an idle worker; three times as long without an answer counts as lost."""
    backoff_seconds: float = 0.5
    """Before a worker is started again whose predecessor did nothing; doubles, up to 30 s."""
    max_crashes: int = 5
    """Deaths in a row without one finished call, after which the pool stops."""

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum:
            raise BadInputError(
                f"a {self.role} pool of {self.minimum} to {self.maximum} workers", "1 ≤ minimum ≤ maximum"
            )
        if self.requests_per_worker < 1 or self.max_crashes < 1:
            raise BadInputError(
                f"requests_per_worker={self.requests_per_worker}, max_crashes={self.max_crashes} in the pool of "
                f"{self.role}s",
                "at least 1 of each",
            )
        waits = (
            self.grace_seconds,
            self.deadline_seconds,
            self.start_seconds,
            self.health_seconds,
            self.backoff_seconds,
        )
        if min(waits) <= 0:
            raise BadInputError(f"a wait of {min(waits)} s in the pool of {self.role}s", "waits above 0")
