"""How many workers there should be, and when a dead one is replaced: arithmetic on counts and times, no clock."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from residency.platform.pool.config import PoolConfig

BACKOFF_CAP_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLoad:
    """One worker that takes requests; ``idle_since`` matters only while nothing is in flight."""

    name: str
    in_flight: int
    idle_since: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolLoad:
    """A pool at one moment; ``waiting`` leaves out requests that are held back by bytes, not by workers."""

    waiting: int
    ready: Sequence[WorkerLoad]
    starting: int
    now: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Workers to start now, names of those to leave, and the time of the next look where nothing else happens."""

    start: int = 0
    leave: tuple[str, ...] = ()
    look_at: float | None = None


def decide(load: PoolLoad, config: PoolConfig) -> Decision:
    """As many workers as hold all requests, within the bounds; above that, who was idle for ``idle_seconds`` leaves.

    Growth is immediate; shrinking waits for idleness, so that a pause between two batches costs no restart.
    """
    requests = load.waiting + sum(worker.in_flight for worker in load.ready)
    wanted = min(max(math.ceil(requests / config.requests_per_worker), config.minimum), config.maximum)
    present = len(load.ready) + load.starting
    if present < wanted:
        return Decision(start=wanted - present)
    if (surplus := len(load.ready) - config.maximum) > 0:
        least_busy = sorted(load.ready, key=lambda worker: (worker.in_flight, worker.idle_since))
        return Decision(leave=tuple(worker.name for worker in least_busy[:surplus]))
    surplus = len(load.ready) - wanted
    idle = sorted((worker for worker in load.ready if worker.in_flight == 0), key=lambda worker: worker.idle_since)
    if surplus <= 0 or not idle:
        return Decision()
    leave = tuple(worker.name for worker in idle[:surplus] if load.now - worker.idle_since >= config.idle_seconds)
    return Decision(leave=leave, look_at=None if leave else idle[0].idle_since + config.idle_seconds)


@dataclass(slots=True)
class CrashLedger:
    """Tells a death from a crash loop. Deaths at one time are one crash: only who was started since counts again."""

    max_crashes: int
    backoff_seconds: float
    crashes: int = 0
    """Deaths in a row without any finished call in the pool."""
    barren: int = 0
    """Deaths in a row of workers that had finished nothing themselves."""
    last_crash: float = -math.inf

    @property
    def exhausted(self) -> bool:
        return self.crashes >= self.max_crashes

    def died(self, *, started: float, finished_calls: int, now: float) -> float:
        """Note a death; the time before which no other worker should be started."""
        if started >= self.last_crash:
            self.crashes += 1
            self.barren = 0 if finished_calls else self.barren + 1
            self.last_crash = now
        if self.barren <= 1:
            return now  # the first replacement comes at once
        return now + min(self.backoff_seconds * 2.0 ** min(self.barren - 2, 16), BACKOFF_CAP_SECONDS)

    def finished(self) -> None:
        """Some call was answered: whatever dies next is not a loop of the whole pool."""
        self.crashes = 0
