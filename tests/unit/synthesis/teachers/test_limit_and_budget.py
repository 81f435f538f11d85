"""How many are asked at once, when a failure is repeated, and when spending ends."""

import asyncio
import random
from datetime import UTC, datetime

import pytest

from residency.platform.clock import SimulatedClock
from residency.platform.synthesis_config import BudgetConfig
from residency.synthesis.teachers.adaptive_limit import AdaptiveLimit, Outcome
from residency.synthesis.teachers.budget import Budget, Spent
from residency.synthesis.teachers.retrying import CAP_SECONDS, jitter_seconds, retry_after_seconds


def run(clock: SimulatedClock, limit: AdaptiveLimit, outcomes: list[Outcome], pause: float = 0.0) -> int:
    """Asks once for each outcome, all at once; returns how many were in flight at most."""
    most = 0

    async def ask(outcome: Outcome) -> None:
        nonlocal most
        began = await limit.acquire()
        most = max(most, limit.in_flight)
        await clock.sleep(1.0)
        limit.release(began, outcome, pause)

    async def all_of_them() -> None:
        await asyncio.gather(*map(ask, outcomes))

    clock.run(all_of_them())
    return most


def test_no_more_than_the_limit_are_in_flight_and_none_is_forgotten() -> None:
    clock = SimulatedClock()
    limit = AdaptiveLimit(8, clock.monotonic)
    assert run(clock, limit, [Outcome.ANSWERED] * 50) == 8
    assert (limit.in_flight, limit.limit) == (0, 8.0)
    assert clock.monotonic() == pytest.approx(7.0)


def test_a_refusal_lowers_once_a_round_trip_and_answers_raise_it_again() -> None:
    clock = SimulatedClock()
    limit = AdaptiveLimit(100, clock.monotonic)
    run(clock, limit, [Outcome.REFUSED] * 100)
    assert limit.decreases == 1  # a hundred refusals of one round are one sign
    assert 60 < limit.limit < 80
    run(clock, limit, [Outcome.ANSWERED] * 3000)
    assert limit.limit == 100.0


def test_one_failure_in_a_hundred_lowers_nothing_and_many_do() -> None:
    clock = SimulatedClock()
    limit = AdaptiveLimit(50, clock.monotonic)
    run(clock, limit, ([Outcome.FAILED] + [Outcome.ANSWERED] * 99) * 5)
    assert limit.decreases == 0
    run(clock, limit, [Outcome.FAILED] * 200)
    assert limit.decreases > 1
    assert limit.limit < 25


def test_nobody_asks_before_retry_after_is_over() -> None:
    clock = SimulatedClock()
    limit = AdaptiveLimit(4, clock.monotonic)
    run(clock, limit, [Outcome.REFUSED], pause=30.0)
    run(clock, limit, [Outcome.ANSWERED])
    assert clock.monotonic() == pytest.approx(32.0)


def test_who_gives_up_waiting_hands_the_place_on() -> None:
    clock = SimulatedClock()
    limit = AdaptiveLimit(1, clock.monotonic)

    async def three() -> None:
        began = await limit.acquire()
        second, third = asyncio.create_task(limit.acquire()), asyncio.create_task(limit.acquire())
        await clock.sleep(1.0)
        limit.release(began, Outcome.ANSWERED)
        second.cancel()
        await asyncio.wait_for(third, 5.0)
        assert limit.in_flight == 1

    clock.run(three())


def test_jitter_is_full_and_its_ceiling_doubles_to_the_cap() -> None:
    rng = random.Random(0)
    for attempt, ceiling in ((0, 0.25), (3, 2.0), (40, CAP_SECONDS)):
        waits = [jitter_seconds(attempt, rng) for _ in range(2000)]
        assert min(waits) < 0.02 * ceiling
        assert 0.97 * ceiling < max(waits) <= ceiling


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), ("1.5", 1.5), ("-3", 0.0), ("soon", 0.0), ("", 0.0), ("Wed, 21 Oct 2026 07:28:10 GMT", 10.0)],
)
def test_retry_after_reads_seconds_and_dates(said: str, seconds: float) -> None:
    now = datetime(2026, 10, 21, 7, 28, 0, tzinfo=UTC)
    assert retry_after_seconds({"Retry-After": said} if said else {}, now) == seconds


def test_a_budget_names_the_limit_that_is_met_and_counts_earlier_starts() -> None:
    clock = SimulatedClock()
    before = Spent(tokens_in=50, tokens_out=40, money=0.5, seconds=3000.0)
    assert Budget(BudgetConfig(), before, clock.monotonic).exhausted() == ""
    tokens = Budget(BudgetConfig(tokens=100), before, clock.monotonic)
    assert tokens.exhausted() == ""
    tokens.add(6, 4, 0.0)
    assert tokens.exhausted().startswith("100 of 100 tokens are spent: raise synthesis.budget.tokens")
    assert "synthesis.budget.money" in Budget(BudgetConfig(money=0.5), before, clock.monotonic).exhausted()
    hours = Budget(BudgetConfig(hours=1.0), before, clock.monotonic)
    assert hours.exhausted() == ""
    clock.advance(601.0)
    assert "1.00 of 1 hours" in hours.exhausted()
    assert hours.spent.seconds == 3601.0
