"""The pool's arithmetic and its waiting line, without Ray."""

import asyncio
from dataclasses import dataclass

import pytest

from residency.platform.errors import BadInputError, RoleError
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.line import Line, Ticket
from residency.platform.pool.scaling import CrashLedger, Decision, PoolLoad, WorkerLoad, decide

CONFIG = PoolConfig(role="verifier", minimum=1, maximum=4, requests_per_worker=2, idle_seconds=10)


def load(waiting: int, *workers: tuple[int, float], starting: int = 0, now: float = 100.0) -> PoolLoad:
    ready = [WorkerLoad(name=f"w{n}", in_flight=busy, idle_since=since) for n, (busy, since) in enumerate(workers)]
    return PoolLoad(waiting=waiting, ready=ready, starting=starting, now=now)


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (load(0), Decision(start=1)),  # the minimum
        (load(0, starting=1), Decision()),
        (load(1, (2, 0)), Decision(start=1)),  # 3 requests, 2 places each
        (load(2, (2, 0), starting=1), Decision()),  # the one that starts will take them
        (load(50, (2, 0)), Decision(start=3)),  # never above the maximum
        (load(0, (0, 95), (0, 89)), Decision(leave=("w1",))),
        (load(0, (0, 95), (0, 92)), Decision(look_at=102)),  # nobody was idle for long enough yet
        (load(0, (0, 1), (0, 2), (2, 3)), Decision(leave=("w0", "w1"))),
        (load(0, (0, 1)), Decision()),  # the minimum stays
        (load(0, (1, 1), (1, 2), (1, 3), (0, 4)), Decision(leave=("w3",))),
        (load(9, (2, 0), (2, 0), (1, 0), (2, 0), (2, 0)), Decision(leave=("w2",))),  # more than the maximum now allows
    ],
)
def test_workers_follow_requests_within_the_bounds(seen: PoolLoad, wanted: Decision) -> None:
    assert decide(seen, CONFIG) == wanted


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(BadInputError, match="3 to 2 workers"):
        PoolConfig(role="verifier", minimum=3, maximum=2)
    with pytest.raises(BadInputError, match="a wait of 0 s"):
        PoolConfig(role="verifier", health_seconds=0)


def test_restarts_back_off_and_the_ledger_tells_a_loop_from_one_accident() -> None:
    ledger = CrashLedger(max_crashes=4, backoff_seconds=1)
    for _ in range(8):  # a node with eight workers goes down: one crash
        assert ledger.died(started=0, finished_calls=3, now=10) == 10
    assert (ledger.crashes, ledger.exhausted) == (1, False)
    waits, now = [], 20.0
    for _ in range(3):
        again = ledger.died(started=now, finished_calls=0, now=now + 1)
        waits.append(again - now - 1)
        now = again
    assert waits == [0, 1, 2]
    assert ledger.exhausted
    ledger.finished()
    assert not ledger.exhausted
    for _ in range(20):
        again = ledger.died(started=now, finished_calls=0, now=now)
        waits.append(again - now)
    assert max(waits) == 30


@dataclass(eq=False)
class Place:
    name: str
    in_flight: int = 0


def line_of(*places: Place, per_worker: int = 2, max_bytes: int | None = None) -> Line[Place]:
    line: Line[Place] = Line(per_worker, max_bytes)
    for place in places:
        line.open(place)
    return line


def test_bytes_and_places_bound_what_is_in_flight_and_nobody_overtakes() -> None:
    async def run() -> list[int]:
        a = Place("a")
        line, order = line_of(a, per_worker=3, max_bytes=100), []

        async def work(number: int, num_bytes: int) -> None:
            ticket = Ticket(number, num_bytes)
            place = await line.take(ticket)
            order.append(number)
            assert place.in_flight <= 3
            assert line.bytes_in_flight <= 100 or place.in_flight == 1  # above the bound it travels alone
            await asyncio.sleep(0)
            line.give_back(place, ticket)

        sizes = [60, 30, 90, 1, 1, 1, 1, 500, 1, 99]
        await asyncio.wait_for(asyncio.gather(*(work(*each) for each in enumerate(sizes))), 5)
        assert (line.num_waiting, line.bytes_in_flight, a.in_flight) == (0, 0, 0)
        return order

    assert asyncio.run(run()) == list(range(10))


def test_a_request_asked_again_comes_first_and_can_have_a_worker_for_itself() -> None:
    async def run() -> None:
        a, b = Place("a"), Place("b")
        line = line_of(a, b)
        first, second, third = Ticket(1), Ticket(2), Ticket(3)
        assert [await line.take(ticket) for ticket in (first, second, third)] == [b, a, a]  # the least busy
        later = asyncio.ensure_future(line.take(Ticket(9)))
        await asyncio.sleep(0)
        assert later.done()
        assert await later is b
        line.close(b)
        again = asyncio.ensure_future(line.take(Ticket(1, alone=True)))
        late = asyncio.ensure_future(line.take(Ticket(10)))
        line.give_back(a, second)
        await asyncio.sleep(0)
        assert not again.done()  # a still has the third
        assert not late.done()  # and nobody overtakes
        assert line.num_waiting_for_workers == 2
        line.give_back(a, third)
        await asyncio.sleep(0)
        assert again.done()
        assert not late.done()
        line.give_back(a, Ticket(1, alone=True))
        assert await asyncio.wait_for(late, 1) is a
        assert b.in_flight == 2  # closed, but what it has still counts

    asyncio.run(run())


def test_a_cancelled_wait_leaves_no_place_behind_and_a_failed_line_tells_everyone() -> None:
    async def run() -> None:
        a = Place("a")
        line = line_of(a, per_worker=1)
        await line.take(Ticket(0))
        waits = [asyncio.ensure_future(line.take(Ticket(number))) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        waits[0].cancel()
        line.give_back(a, Ticket(0))  # seats the second …
        waits[1].cancel()  # … which is cancelled in the same turn
        await asyncio.sleep(0)
        assert await asyncio.wait_for(waits[2], 1) is a
        assert (line.num_waiting, a.in_flight) == (0, 1)
        fourth = asyncio.ensure_future(line.take(Ticket(4)))
        await asyncio.sleep(0)
        line.fail(lambda: RoleError("stopped"))
        for wait in (fourth, line.take(Ticket(5))):
            with pytest.raises(RoleError, match="stopped"):
                await wait

    asyncio.run(run())
