"""Two runs' drivers on one cluster: the same names in both, and the crash of one leaves the other alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from residency.platform.cluster import namespace_of
from residency.platform.journal.reader import read_state
from residency.platform.journal.state import Stage

NUM_REQUESTS = 20
WAIT_SECONDS = 150


def start_driver(run: Path) -> subprocess.Popen[bytes]:
    driver = Path(__file__).parent / "pool_driver.py"
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, str(driver), str(run), address, str(NUM_REQUESTS), "1"]
    with (run.parent / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))


def answered(run: Path) -> int:
    if not (run / "journal").is_dir():
        return 0
    return sum(progress.stage >= Stage.ANSWERED for progress in read_state(run / "journal").keys.values())


def living_actors(run: Path) -> set[str]:
    there: list[Any] = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in there if actor["namespace"] == namespace_of(run)}


def until(holds: Any, what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.timeout(400)
def test_a_run_that_is_killed_leaves_the_other_and_goes_on_when_it_is_started_again(
    ray_cluster: Any, tmp_path: Path
) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    drivers = [start_driver(run) for run in (left, right)]
    try:
        until(lambda: answered(left) > 1 and answered(right) > 1, "both at work")
        assert living_actors(left) == living_actors(right) == {"generator-1"}, "the same name, in two namespaces"
        drivers[0].send_signal(signal.SIGKILL)
        drivers[0].wait(30)
        before = answered(left)
        until(lambda: not living_actors(left), "Ray ends the actors of a driver that is gone")
        assert before < NUM_REQUESTS
        assert living_actors(right) == {"generator-1"}
        drivers.append(start_driver(left))
        assert drivers[1].wait(WAIT_SECONDS) == 0
        assert drivers[2].wait(WAIT_SECONDS) == 0, (tmp_path / "left.log").read_text()[-2000:]
    finally:
        for driver in drivers:
            driver.kill()
            driver.wait(30)
    for run, lives in ((left, 2), (right, 1)):
        state = read_state(run / "journal")
        assert len(state.opened) == lives
        assert answered(run) == NUM_REQUESTS
        kinds = [json.loads(line)["kind"] for line in (run / "events.jsonl").read_text().splitlines()]
        assert "worker_lost" not in kinds
        assert kinds.count("worker_joined") == lives
    assert all(progress.asked == 1 for progress in read_state(right / "journal").keys.values())
