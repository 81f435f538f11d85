"""A run whose disk is full, whose node is drained, whose driver is told to stop: it ends in order, and loses nothing.

The chaos suite's short job: the shipped conductor in a process of its own, simulated engines, a stand-in for DeepSpeed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from residency.platform.journal.reader import read_state
from residency.platform.journal.state import Stage
from residency.platform.report.run_files import read_lines

CHAOS = Path(__file__).parents[1] / "chaos"
STEPS, LABEL = 8, {"tier": "work"}  # of the job, and of the node where it wants to be
WHOLE_SECONDS, GRACE_SECONDS = 900, 60


def start_driver(run: Path, log: Path, address: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(CHAOS)}
    command = [sys.executable, str(CHAOS / "rl_driver.py"), str(run), "light", "400"]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    path = run / "events.jsonl"
    return [row for row in read_lines(path) if row["kind"] == kind] if path.is_file() else []


def trained(run: Path) -> int:
    return read_state(run / "journal").learner("rl").step if (run / "journal").is_dir() else 0


def until(run: Path, log: Path, driver: "subprocess.Popen[bytes]", holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WHOLE_SECONDS
    while not holds():
        words = log.read_text()[-3000:]
        assert driver.poll() is None, words
        assert time.monotonic() < deadline, words
        time.sleep(0.05)


def drain(node_id: str) -> None:
    """What an autoscaler says when it has been told that a node will be taken away."""
    import ray

    raylet, protocol = import_module("ray._raylet"), import_module("ray.core.generated.autoscaler_pb2")
    client = raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    reason = protocol.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why = client.drain_node(node_id, reason, "preempted", int(1000 * (time.time() + GRACE_SECONDS)))
    assert accepted, why


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small disk of its own for the run."""
    monkeypatch.syspath_prepend(str(CHAOS))
    with import_module("chaos_scene").small_disk(tmp_path / "disk", "light") as mounted:
        if not mounted:
            pytest.skip("no file system may be mounted here")
        yield tmp_path / "disk"


def fill(disk: Path) -> Path:
    """A file that leaves no room."""
    filler, free = disk / "filler", shutil.disk_usage(disk).free
    with filler.open("wb") as file:
        file.write(bytes(free - (free % 4096) - 4096))
    return filler


@pytest.mark.timeout(2 * WHOLE_SECONDS)
def test_a_full_disk_a_drained_node_and_a_stop_cost_nothing_that_was_journalled(ray_cluster: Any, disk: Path) -> None:
    job: Any = import_module("chaos_job")
    run, log = disk / "run", disk.parent / "driver.log"
    run.mkdir()
    job.prepare(run, "light", disk)
    spot = ray_cluster.cluster.add_node(num_cpus=2, labels=LABEL, object_store_memory=80 << 20)
    driver = start_driver(run, log, ray_cluster.cluster.address)
    try:
        until(run, log, driver, lambda: trained(run) >= 1)
        filler = fill(disk)
        assert driver.wait(300)
        words = [line for line in log.read_text().splitlines() if "StorageError: " in line][-1]
        assert "No space left" in words
        assert "start the same command again: it goes on" in words
        filled_at = trained(run)
        filler.unlink()

        driver = start_driver(run, log, ray_cluster.cluster.address)
        until(run, log, driver, lambda: trained(run) >= max(2, filled_at))
        drain(spot.node_id)
        until(run, log, driver, lambda: bool(events(run, "learner_restarted")))
        until(run, log, driver, lambda: trained(run) >= 4)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(300)
        assert "StoppedError: the run was stopped by SIGTERM" in log.read_text()
        stopped_at = trained(run)
        ray_cluster.cluster.remove_node(spot)

        driver = start_driver(run, log, ray_cluster.cluster.address)
        assert driver.wait(WHOLE_SECONDS) == 0, log.read_text()[-3000:]
    finally:
        driver.kill()
        driver.wait(30)
        if spot in ray_cluster.cluster.list_all_nodes():
            ray_cluster.cluster.remove_node(spot)

    (moved,) = events(run, "learner_restarted")
    assert "is being drained" in moved["cause"]
    assert moved["ranks"] == 2
    left = [event for event in events(run, "worker_leaving") if event["node"] == spot.node_id]
    drained = {event["role"] for event in left if "is being drained" in event["reason"]}
    assert drained >= {"generator", "verifier", "synthesizer"}
    again = [event["step"] for event in events(run, "step_replayed")]
    assert all(step < filled_at for step in again), "both notices were followed by a checkpoint before anything ended"
    saved = [event["step"] for event in events(run, "checkpoint_saved")]
    assert moved["step"] in saved
    assert stopped_at in saved
    state = read_state(run / "journal")
    assert [step for (_, step), _ in state.learner("rl").steps()] == list(range(1, STEPS + 1))
    used = Counter(key for _, keys in state.learner("rl").steps() for key in keys)
    assert set(used.values()) == {1}
    groups = {key: now for key, now in state.keys.items() if key.startswith("rl-")}
    assert groups.keys() == set(job.due_groups())
    assert {now.stage for now in groups.values()} <= {Stage.TRAINED, Stage.DROPPED}
    assert all(now.tries == 0 for now in groups.values()), "who leaves in order costs no try"
