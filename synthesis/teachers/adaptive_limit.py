"""How many requests an endpoint is asked at once: additive increase, multiplicative decrease (AIMD, RFC 5681).

    began = await limit.acquire()
    …
    limit.release(began, Outcome.ANSWERED)

A refusal (429) lowers the limit at once, failures (5xx, time-outs) only where they are many: one row in a hundred that
fails is no sign of overload. Whoever began before the last decrease says nothing new, and lowers nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

BACK_OFF = 0.7  # what is left of the limit after a decrease
RISE_ROUNDS = 32  # round trips of a full window in which the limit rises from nothing to the most
FAILURES_ALLOWED = 0.05  # share of the last outcomes that may fail before failures count as overload
OUTCOMES_SEEN = 100
LONGEST_PAUSE = 300.0  # seconds; an endpoint that asks for more is asked again after that


class Outcome(Enum):
    ANSWERED = 0
    REFUSED = 1  # 429: too many
    FAILED = 2  # 5xx, broken connection, time-out


class AdaptiveLimit:
    """Used from one loop. ``most`` is the ceiling; ``limit`` where it stands now."""

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self.most, self.limit, self.in_flight = most, float(most), 0
        self.decreases = 0
        self._now = now
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._failed = deque([False] * OUTCOMES_SEEN, OUTCOMES_SEEN)
        self._num_failed = 0
        self._decreased = self._open_at = now()
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self) -> float:
        """Waits for a place; returns when the request began, by the limit's clock."""
        while self.in_flight >= int(self.limit) or (self._open_at > self._now()):
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            self._set_timer()
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._wake()  # the place was ours: the next one gets it
                raise
        self.in_flight += 1
        return self._now()

    def release(self, began: float, outcome: Outcome, pause_seconds: float = 0.0) -> None:
        """Gives the place back. ``pause_seconds``: nobody asks before (Retry-After)."""
        self.in_flight -= 1
        failed = outcome is Outcome.FAILED
        self._num_failed += failed - self._failed[0]
        self._failed.append(failed)
        if outcome is Outcome.ANSWERED:
            if self.limit < self.most:
                self.limit = min(self.most, self.limit + self.most / RISE_ROUNDS / self.limit)
        elif began >= self._decreased and (
            outcome is Outcome.REFUSED or self._num_failed > FAILURES_ALLOWED * OUTCOMES_SEEN
        ):
            self.limit = max(1.0, min(self.limit, max(self.in_flight, 1) / BACK_OFF) * BACK_OFF)
            self._decreased = self._now()
            self.decreases += 1
        if pause_seconds > 0:
            self._open_at = max(self._open_at, self._now() + min(pause_seconds, LONGEST_PAUSE))
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        if self._open_at > self._now():
            self._set_timer()
            return
        free = int(self.limit) - self.in_flight
        while self._waiting and free > 0:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1

    def _set_timer(self) -> None:
        wait = self._open_at - self._now()
        if wait > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._open)

    def _open(self) -> None:
        self._timer = None
        self._wake()
