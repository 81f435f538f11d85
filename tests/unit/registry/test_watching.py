"""A canary is taken back when it is worse, soon, and hardly ever when it is not."""

import random
from collections.abc import Callable

import pytest

from residency.platform.registry.watching import FEWEST_REQUESTS, WINDOW_REQUESTS, WINDOW_SECONDS, Observation, Watch

Draw = Callable[[random.Random], dict[str, bool | float | None]]
SHARE = 0.1


def as_usual(dice: random.Random) -> dict[str, bool | float | None]:
    """One answer in ten is malformed, one in fifty says nothing, one in a hundred fails."""
    return {
        "seconds": dice.lognormvariate(-1.0, 0.5),
        "failed": dice.random() < 0.01,
        "malformed": dice.random() < 0.1,
        "abstained": dice.random() < 0.02,
    }


def worse(**changes: Callable[[random.Random], bool | float]) -> Draw:
    return lambda dice: as_usual(dice) | {name: change(dice) for name, change in changes.items()}


def canary_requests_until_found(draw: Draw, seed: int, requests: int) -> tuple[int | None, list[str]]:
    """Requests come one by one, a tenth to the canary; looked at after every tenth of the canary's."""
    dice, watch, to_canary = random.Random(seed), Watch("v1", "v2"), 0
    for number in range(requests):
        canary = dice.random() < SHARE
        watch.add(
            Observation(version="v2" if canary else "v1", t=float(number), **(draw if canary else as_usual)(dice))  # type: ignore[arg-type]
        )
        to_canary += canary
        if canary and to_canary % 10 == 0 and (found := watch.findings()):
            return to_canary, [one.what for one in found]
    return None, []


def test_a_canary_like_the_stable_version_stays() -> None:
    """Each of 12 canaries is looked at 20 times, over 200 of its requests."""
    lost = sum(canary_requests_until_found(as_usual, seed, 2000)[0] is not None for seed in range(12))
    assert lost <= 1


@pytest.mark.parametrize(
    ("what", "draw", "soon"),
    [
        ("malformed", worse(malformed=lambda dice: dice.random() < 0.5), 80),
        ("abstained", worse(abstained=lambda dice: dice.random() < 0.3), 80),
        ("failed", worse(failed=lambda dice: dice.random() < 0.2), 120),
        ("seconds", worse(seconds=lambda dice: dice.lognormvariate(-0.2, 0.5)), 80),
    ],
)
def test_a_worse_canary_is_found_soon(what: str, draw: Draw, soon: int) -> None:
    for seed in range(10):
        after, found = canary_requests_until_found(draw, seed, 4000)
        assert after is not None
        assert after <= soon, seed
        assert what in found


def test_few_requests_tell_nothing() -> None:
    watch = Watch("v1", "v2")
    for number in range(10 * FEWEST_REQUESTS):
        watch.add(Observation(version="v1", t=number, seconds=0.1, malformed=False, abstained=False))
    for number in range(FEWEST_REQUESTS - 1):
        watch.add(Observation(version="v2", t=number, seconds=9.0, failed=True))
    assert watch.findings() == []
    watch.add(Observation(version="v2", t=0.0, seconds=9.0, failed=True))
    assert {one.what for one in watch.findings()} == {"failed", "seconds"}
    assert "100.0% of the answers failed against 0.0%" in str(watch.findings()[0])


def test_only_the_window_counts() -> None:
    watch = Watch("v1", "v2")
    for number in range(2 * WINDOW_REQUESTS):
        watch.add(Observation(version="v1", t=0.001 * number, seconds=0.1))
    watch.add(Observation(version="v2", t=0.0, seconds=0.1, failed=True))
    watch.add(Observation(version="v3", t=0.0, seconds=0.1, failed=True))
    assert watch.num_requests == (WINDOW_REQUESTS, 1)
    watch.add(Observation(version="v2", t=WINDOW_SECONDS + 1, seconds=0.1))
    assert watch.num_requests == (WINDOW_REQUESTS, 1)
    assert watch.summary()["v2"] == {
        "requests": 1, "failed": 0.0, "malformed": 0.0, "abstained": 0.0, "median_seconds": 0.1
    }  # fmt: skip
