"""How much of the time each role had nothing to do.

meter = IdleMeter(RealClock())
with meter.busy("generator", "generator-0"):
    ...
meter.take()        # {"idle_fraction_generator": 0.25}: since the last look
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from residency.platform.clock import Clock
from residency.platform.errors import DataError


@dataclass(slots=True)
class _Worker:
    there_since: float  # within the present window
    num_open: int = 0  # calls under way
    busy_since: float = 0.0
    busy_seconds: float = 0.0
    gone_at: float | None = None

    def settle(self, now: float) -> None:
        """Counts the call that is under way up to now."""
        if self.num_open:
            self.busy_seconds += now - self.busy_since
            self.busy_since = now


class IdleMeter:
    """A worker is busy while it has at least one call: calls that overlap count once, workers side by side each.

    Of a role's W workers, there for s₁ … s_W seconds and busy for b₁ … b_W of them, 1 − Σb / Σs was idle. Who is never
    said to ``join`` counts as there from the beginning of the window in which it is first heard of.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._workers: dict[str, dict[str, _Worker]] = {}

    def join(self, role: str, worker: str) -> None:
        """A worker that is there from now on; its idle seconds count."""
        now = self._clock.monotonic()
        known = self._workers.setdefault(role, {})
        if worker not in known or known[worker].gone_at is not None:
            known[worker] = _Worker(there_since=now)

    def leave(self, role: str, worker: str) -> None:
        """A worker that is no longer there; what it was doing ends now."""
        now, known = self._clock.monotonic(), self._workers.get(role, {})
        if worker in known and known[worker].gone_at is None:
            known[worker].settle(now)
            known[worker].num_open, known[worker].gone_at = 0, now

    def begin(self, role: str, worker: str) -> None:
        """One more call is under way; each ``begin`` wants its ``end``."""
        now = self._clock.monotonic()
        found = self._workers.setdefault(role, {}).setdefault(worker, _Worker(there_since=self._began))
        if found.gone_at is not None:
            found = self._workers[role][worker] = _Worker(there_since=now)
        if not found.num_open:
            found.busy_since = now
        found.num_open += 1

    def end(self, role: str, worker: str) -> None:
        """The end of one call; that of a worker which has left is passed over. Raises DataError without a begin."""
        found = self._workers.get(role, {}).get(worker)
        if found is None or (found.gone_at is None and not found.num_open):
            raise DataError(f"the end of a call of {worker} ({role}) that never began", "begin before end")
        if found.num_open:
            found.settle(self._clock.monotonic())
            found.num_open -= 1

    @contextmanager
    def busy(self, role: str, worker: str) -> Iterator[None]:
        """The worker is busy inside the block, whatever happens in it."""
        self.begin(role, worker)
        try:
            yield
        finally:
            self.end(role, worker)

    def take(self) -> dict[str, float]:
        """``idle_fraction_<role>`` since the last call of this, of every role that was there; a new window begins."""
        now, found = self._clock.monotonic(), dict[str, float]()
        for role, workers in self._workers.items():
            there = busy = 0.0
            for worker in workers.values():
                worker.settle(now)
                there += (now if worker.gone_at is None else worker.gone_at) - worker.there_since
                busy += worker.busy_seconds
                worker.there_since, worker.busy_seconds = now, 0.0
            if there > 0:
                found[f"idle_fraction_{role}"] = 1 - busy / there
            self._workers[role] = {name: worker for name, worker in workers.items() if worker.gone_at is None}
        self._began = now
        return found
