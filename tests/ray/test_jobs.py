"""What `residency submit` asks of a cluster, without one: places, refusals, a log shown once. No cluster starts."""

import subprocess
from typing import Any

import pytest

from residency.platform.errors import BadInputError, RoleError, RunInUseError
from residency.platform.jobs import RUN, JobLog, connect, entrypoint, in_use, run_place


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
