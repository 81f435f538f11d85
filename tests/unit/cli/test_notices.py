"""What a run does when it is told to stop."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from residency.platform.cli.notices import Notices
from residency.platform.errors import StoppedError

Events = list[tuple[str, dict[str, Any]]]


def noted() -> tuple[Events, Callable[..., None]]:
    events: Events = []
    return events, lambda kind, **details: events.append((kind, details))


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_sigterm_ends_a_stage_that_has_nothing_to_save_at_once() -> None:
    events, note = noted()
    ended: list[str] = []

    async def stage() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("in order")

    async def scenario() -> None:
        notices = Notices(30.0, note)
        with notices.on_sigterm():
            asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)
            with pytest.raises(StoppedError, match="stopped by SIGTERM.*start the same command again") as stopped:
                await notices.during(stage())
        assert stopped.value.exit_code == 75

    before = signal.getsignal(signal.SIGTERM)
    run(scenario)
    assert signal.getsignal(signal.SIGTERM) is before
    assert ended == ["in order"]
    assert [kind for kind, _ in events] == ["stop_asked"]


def test_a_stage_that_heeds_is_given_its_grace_and_says_itself_what_is_saved() -> None:
    async def stage(notices: Notices) -> None:
        with notices.heeded():
            await notices.news()
            await asyncio.sleep(0.2)  # to its next step boundary
            raise notices.stopped("step 7 is saved")

    async def scenario() -> None:
        notices = Notices(10.0, noted()[1])
        asyncio.get_running_loop().call_later(0.05, notices.stop, "SIGTERM")
        with pytest.raises(StoppedError, match="step 7 is saved"):
            await notices.during(stage(notices))

    run(scenario)


@pytest.mark.parametrize("told_again", [False, True])
def test_a_stage_that_is_not_done_within_its_grace_is_ended(told_again: bool) -> None:
    async def stage(notices: Notices) -> None:
        with notices.heeded():
            await asyncio.sleep(60)

    async def scenario() -> None:
        notices = Notices(60.0 if told_again else 0.2, noted()[1])
        asyncio.get_running_loop().call_later(0.05, notices.stop, "SIGTERM")
        if told_again:
            asyncio.get_running_loop().call_later(0.1, notices.stop, "SIGTERM")
        with pytest.raises(StoppedError, match="its grace ended in the middle of a step"):
            await notices.during(stage(notices))

    run(scenario)


def test_a_stage_that_is_done_counts_and_its_own_error_passes() -> None:
    async def done(notices: Notices) -> None:
        notices.stop("SIGTERM")

    async def fails(notices: Notices) -> None:
        raise ValueError("of the stage")

    async def scenario() -> None:
        notices = Notices(1.0, noted()[1])
        with pytest.raises(ValueError, match="of the stage"):
            await notices.during(fails(notices))
        await notices.during(done(notices))
        with pytest.raises(StoppedError):
            await notices.during(asyncio.sleep(5))  # the next stage

    run(scenario)


def test_nodes_that_go_are_news_once() -> None:
    async def scenario() -> None:
        notices = Notices(1.0, noted()[1])
        notices.leave({"a": "is being drained"})
        await notices.news()
        notices.leave({"a": "is being drained"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(notices.news(), 0.05)
        notices.leave({})
        await asyncio.wait_for(notices.news(), 0.05)

    run(scenario)


def test_the_command_leaves_with_75_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from residency.platform.cli import app as command_line

    def stopped() -> None:
        notices = Notices(1.0, noted()[1])
        notices.stop("SIGTERM")
        raise notices.stopped("all its 3 steps are in its newest checkpoint")

    monkeypatch.setattr(command_line, "app", stopped)
    monkeypatch.setattr(command_line, "prepare_environment", lambda: None)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 75
    said = " ".join("".join(capsys.readouterr()).split())
    assert said.startswith("stopped the run was stopped by SIGTERM: all its 3 steps")
    assert "start the same command again" in said
