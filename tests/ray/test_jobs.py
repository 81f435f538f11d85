"""What `residency submit` asks of a cluster, without one: places, refusals, a log shown once. No cluster starts."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from residency.platform.errors import BadInputError, RoleError, RunInUseError
from residency.platform.jobs import RUN, JobLog, connect, entrypoint, follow, in_use, run_place


@pytest.mark.parametrize(("run", "place"), [("a-1.b", "/shared/my runs/a-1.b"), ("/data/x y/$HOME", "/data/x y/$HOME")])
def test_the_shell_of_the_job_finds_the_place(run: str, place: str) -> None:
    echo = f"printf %s {run_place(run)}"
    done = subprocess.run(["sh", "-c", echo], capture_output=True, text=True, env={"RESIDENCY_RUNS": "/shared/my runs"})
    assert done.stdout == place


def test_without_the_variable_the_job_ends_as_bad_input_and_says_what_to_do() -> None:
    done = subprocess.run(["sh", "-c", entrypoint("mine")], capture_output=True, text=True, env={})
    assert done.returncode == 2
    assert "RESIDENCY_RUNS" in done.stderr
    assert "give --run /path/mine" in done.stderr


@pytest.mark.parametrize("run", ["runs/mine", "../mine", "", "-x", "a b", "$(id)"])
def test_other_places_are_refused(run: str) -> None:
    with pytest.raises(BadInputError, match="a name"):
        run_place(run)


def test_an_address_that_is_no_dashboard_is_refused() -> None:
    with pytest.raises(BadInputError, match="8265"):
        connect("ray://127.0.0.1:10001")
    with pytest.raises(RoleError, match="no Ray cluster answers"):
        connect("http://127.0.0.1:9")


def test_a_log_is_shown_once_whatever_the_connection() -> None:
    shown: list[str] = []
    log = JobLog(shown.append)
    for connection in (["one\n", "two\n"], ["one\ntwo\nth", "ree\n"], ["one\n", "two\nthree\nfour\n"]):
        log.begin()
        for part in connection:
            log.take(part)
    assert "".join(shown) == "one\ntwo\nthree\nfour\n"


def test_the_refusal_says_how_to_follow_and_to_stop() -> None:
    class At:
        def get_address(self) -> str:
            return "http://h:8265"

    client: Any = At()
    refusal = in_use(client, "mine", "mine-3")
    assert isinstance(refusal, RunInUseError)
    assert "ray job stop mine-3 --address http://h:8265" in str(refusal)
    assert RUN == "residency_run"


class Wire:
    """A job's log over a network that fails: each connection gives some of it and then an error, or its end."""

    def __init__(self, *connections: Sequence[str | Exception]) -> None:
        self._connections, self.ended = list(connections), False

    async def tail_job_logs(self, _: str) -> AsyncIterator[str]:
        for part in self._connections.pop(0):
            if isinstance(part, Exception):
                raise part
            yield part
        self.ended = True

    def get_job_info(self, job_id: str) -> JobDetails:
        status = JobStatus.SUCCEEDED if self.ended else JobStatus.RUNNING
        fields: dict[str, Any] = {"type": JobType.SUBMISSION, "submission_id": job_id, "status": status}
        return JobDetails(**fields, entrypoint="")


def follow_wire(wire: Any, lost_seconds: float) -> tuple[JobDetails, str]:
    shown: list[str] = []
    return asyncio.run(follow(wire, "mine-1", shown.append, lost_seconds)), "".join(shown)


def test_following_goes_on_after_a_broken_connection() -> None:
    wire = Wire(
        ["one\n", ConnectionResetError("reset")],
        [RuntimeError("WebSocket connection closed unexpectedly")],
        ["one\n", "two\n", "three\n"],
    )
    details, shown = follow_wire(wire, lost_seconds=60)
    assert details.status == JobStatus.SUCCEEDED
    assert shown == "one\ntwo\nthree\n"


def test_a_cluster_that_is_gone_is_told_with_what_to_do() -> None:
    with pytest.raises(RoleError, match="submit the same command to a new one"):
        follow_wire(Wire(*([ConnectionRefusedError("refused")] for _ in range(9))), lost_seconds=1.5)
