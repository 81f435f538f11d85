"""The line before a pool: requests wait, first come first served, for a seat in a worker and for their bytes."""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Seating(Protocol):
    """What a worker shows to the line, which alone writes it."""

    in_flight: int


W = TypeVar("W", bound=Seating)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request's place in the line: it keeps ``number`` when it must be asked again, so it comes first then.

    ``alone`` asks for a worker that does nothing else meanwhile.
    """

    number: int
    num_bytes: int = 0
    alone: bool = False


class Line(Generic[W]):
    """Seats in open workers, bytes in the whole pool. Nobody overtakes, so that nobody starves.

    A free seat is found in the least busy worker, of equals the one used last: the others grow idle and can leave.
    """

    def __init__(
        self, requests_per_worker: int, max_bytes: int | None, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        self._on_wait = on_wait  # called when a request finds no seat
        self._max_bytes = max_bytes
        self._buckets: list[dict[W, None]] = [{} for _ in range(requests_per_worker)]  # by requests in flight
        self._bucket_of: dict[W, int] = {}
        self._open: set[W] = set()
        self._alone: set[W] = set()
        self._waiting: list[tuple[int, Ticket, asyncio.Future[W]]] = []
        self._num_waiting = 0
        self._bytes = 0
        self._failure: Callable[[], Exception] | None = None

    @property
    def num_waiting(self) -> int:
        return self._num_waiting

    @property
    def bytes_in_flight(self) -> int:
        return self._bytes

    @property
    def num_waiting_for_workers(self) -> int:
        """0 where bytes hold the line back: more workers would not help."""
        head = self._head()
        return 0 if head is None or not self._fits(head) else self.num_waiting

    def open(self, worker: W) -> None:
        """The worker takes requests from now on."""
        self._open.add(worker)
        self._shelve(worker)
        self._pump()

    def close(self, worker: W) -> None:
        """The worker takes no more requests; what it has stays counted until it is given back."""
        self._open.discard(worker)
        self._shelve(worker)

    def fail(self, failure: Callable[[], Exception]) -> None:
        """Everyone who waits, and who comes later, gets an error of this making."""
        self._failure = failure
        waiting, self._waiting, self._num_waiting = self._waiting, [], 0
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(failure())

    async def take(self, ticket: Ticket) -> W:
        """A worker with a seat for the request; it must be given back with ``give_back``."""
        if self._failure is not None:
            raise self._failure()
        if not self._waiting and (worker := self._find(ticket)) is not None:
            self._seat(worker, ticket)
            return worker
        future: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (ticket.number, ticket, future))
        self._num_waiting += 1
        self._pump()  # it may be the first now, as one that is asked again
        if not future.done():
            self._on_wait()
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._num_waiting = max(self._num_waiting - 1, 0)  # 0 already where the line has failed since
                self._pump()
            elif future.done() and future.exception() is None:
                self.give_back(future.result(), ticket)  # seated and cancelled in the same turn of the loop
            raise

    def give_back(self, worker: W, ticket: Ticket) -> None:
        """The request has left the worker, answered or not."""
        worker.in_flight -= 1
        self._bytes -= ticket.num_bytes
        self._alone.discard(worker)
        self._shelve(worker)
        self._pump()

    def _seat(self, worker: W, ticket: Ticket) -> None:
        worker.in_flight += 1
        self._bytes += ticket.num_bytes
        if ticket.alone:
            self._alone.add(worker)
        self._shelve(worker)

    def _shelve(self, worker: W) -> None:
        """Keep the worker in the bucket of its load, or in none."""
        there = self._bucket_of.pop(worker, None)
        if there is not None:
            del self._buckets[there][worker]
        if worker in self._open and worker not in self._alone and worker.in_flight < len(self._buckets):
            self._buckets[worker.in_flight][worker] = None
            self._bucket_of[worker] = worker.in_flight

    def _fits(self, ticket: Ticket) -> bool:
        return self._max_bytes is None or self._bytes == 0 or self._bytes + ticket.num_bytes <= self._max_bytes

    def _find(self, ticket: Ticket) -> W | None:
        if not self._fits(ticket):
            return None
        for bucket in self._buckets[:1] if ticket.alone else self._buckets:
            if bucket:
                return next(reversed(bucket))
        return None

    def _head(self) -> Ticket | None:
        while self._waiting and self._waiting[0][2].cancelled():
            heapq.heappop(self._waiting)
        return self._waiting[0][1] if self._waiting else None

    def _pump(self) -> None:
        while (ticket := self._head()) is not None and (worker := self._find(ticket)) is not None:
            _, _, future = heapq.heappop(self._waiting)
            self._num_waiting -= 1
            self._seat(worker, ticket)
            future.set_result(worker)
