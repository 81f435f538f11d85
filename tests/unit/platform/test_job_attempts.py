"""A job's command is started again when it fails, a bounded number of times, and not when somebody stops it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from residency.platform.job_attempts import MOST_FAILURES, WITHIN_SECONDS, attempt, ended_by, may_try_again


@pytest.fixture(autouse=True)
def _own_handlers() -> object:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def command(*statuses: int, log: Path) -> list[str]:
    """Each start ends with the next of these statuses; negative ones are signals to itself."""
    script = f"""
import os, pathlib
log = pathlib.Path({str(log)!r}); number = len(log.read_text()) if log.exists() else 0
log.write_text("x" * (number + 1)); status = {list(statuses)}[number]
os.kill(os.getpid(), -status) if status < 0 else os._exit(status)
"""
    return [sys.executable, "-c", script]


def test_a_killed_driver_is_started_again_and_success_ends_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "starts"
    assert attempt(command(-9, 1, 0, log=log), pause_seconds=0.01) == 0
    assert log.read_text() == "xxx"
    said = capfd.readouterr().err
    assert "attempt 1 ended: killed by SIGKILL; starting it again" in said
    assert "attempt 2 ended: exit status 1; starting it again" in said


def test_it_is_given_up_after_so_many_failures_with_the_last_status(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    assert attempt(command(1, 1, -15, 0, log=log), pause_seconds=0.01) == 128 + 15
    assert len(log.read_text()) == MOST_FAILURES


@pytest.mark.parametrize("status", [2, 75])
def test_bad_input_and_a_run_that_was_stopped_are_not_tried_again(
    status: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "starts"
    assert attempt(command(status, 0, log=log), pause_seconds=0.01) == status
    assert log.read_text() == "x"
    assert "not tried again" in capfd.readouterr().err


def test_old_failures_do_not_count() -> None:
    long_ago = [0.0, 1.0, 2.0]
    assert not may_try_again(1, [*long_ago[:2], 10.0], 10.0)
    assert may_try_again(1, [*long_ago, WITHIN_SECONDS + 3], WITHIN_SECONDS + 3)
    assert ended_by(7) == "exit status 7"


def test_a_stopped_job_is_not_started_again(tmp_path: Path) -> None:
    """As Ray stops it: SIGTERM to this process and to the command."""
    script = "import time, sys; print('up', flush=True); time.sleep(60)"
    program = f"""
import sys
from residency.platform.job_attempts import attempt
sys.exit(attempt([sys.executable, "-c", {script!r}], pause_seconds=0.01))
"""
    job = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert job.stdout is not None
    assert job.stdout.readline() == "up\n"
    os.killpg(job.pid, signal.SIGTERM)
    began = time.monotonic()
    _, said = job.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert job.returncode == 128 + signal.SIGTERM
    assert "killed by SIGTERM; stopped" in said
