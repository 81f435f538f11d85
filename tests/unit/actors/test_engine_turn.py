"""Whose turn it is on shared devices, as an engine's thread sees it."""

from concurrent.futures import Future
from typing import Any

import pytest

from residency.actors.engine_turn import EngineTurn


class Sleeper:
    """Keeps what vLLM was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def sleep(self, level: int) -> None:
        self.told.append(f"sleep {level}")

    def wake_up(self) -> None:
        self.told.append("wake")


@pytest.mark.parametrize("frees", [False, True])
def test_an_engine_begins_nothing_from_the_moment_that_its_turn_is_asked_back(frees: bool) -> None:
    turn, engine = EngineTurn(frees), Sleeper()
    vllm: Any = engine
    assert turn.works
    asleep, awake = Future[None](), Future[None]()
    turn.ask(False, asleep)
    assert not turn.works, "what runs ends first, and nothing new begins"
    assert not asleep.done()
    turn.settle(vllm)
    assert asleep.done()
    assert not turn.works
    turn.ask(True, awake)
    turn.settle(vllm)
    assert awake.done()
    assert turn.works
    turn.ask(True, Future())
    turn.settle(vllm)
    assert engine.told == (["sleep 1", "wake"] if frees else []), "once each: vLLM is not woken twice"


def test_who_waits_for_a_turn_is_told_of_the_engines_end() -> None:
    turn, asleep, left = EngineTurn(), Future[None](), Future[None]()
    turn.ask(False, left)
    turn.ask(False, asleep)
    left.cancel()
    turn.fail(ValueError("it died"))
    with pytest.raises(ValueError, match="it died"):
        asleep.result(0)
