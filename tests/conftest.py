"""Fixtures that several suites share."""

import importlib.util
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

# CI repeats the same examples, so that a green main stays green; everywhere else each run tries new ones
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # read when Ray is imported
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# as `residency serve` sets both before it starts a cluster
os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "residency.actors.serving.proxy_guard:guards")
os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's own 15 all else on the machine would go first

TINY_TEXTS = (
    "which side is the lesion on?\nChoose from: left, right.\n"
    "Think inside <think> </think>, then answer inside <answer> </answer>.",
    "how many cells are there?\nGive only the answer.",
    "is a platelet present? what is the cell type of the central cell?",
    "<think>the nucleus is round and fills the cell, so it is a lymphocyte.</think><answer>lymphocyte</answer>",
    "<think>there are 3 cells on the left and 4 on the right.</think><answer>7</answer>",
    "yes no neutrophil monocyte eosinophil red white blue green circle square 0 1 2 3 4 5 6 7 8 9",
)


@pytest.fixture(scope="session")
def tiny_student_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL folder (84×84 pictures, 9 tokens each), built once a session with seed 0."""
    from residency.training.student import build_student

    return build_student(tmp_path_factory.mktemp("student") / "tiny", TINY_TEXTS, seed=0)


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny model of a family of ``tiny_families.py`` by its name, each built once a session."""
    spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
    assert spec is not None
    assert spec.loader is not None
    families = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(families)
    home = tmp_path_factory.mktemp("families")
    return cache(lambda name: families.build_family(name, home / name, TINY_TEXTS))


@dataclass(frozen=True)
class TwoNodes:
    """Two Ray nodes with object stores of their own; the driver sits on ``left``. Values are Ray node ids."""

    left: str
    right: str
    cluster: Any
    """Ray's own handle on it: a test that must lose a node adds one, and removes it."""

    def on(self, node_id: str) -> dict[str, Any]:
        """Actor options that place it on that node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[TwoNodes]:
    """A cluster of two nodes on this machine, once a session; only its own processes are stopped."""
    import ray
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="rt", ignore_cleanup_errors=True) as home:  # socket paths must be short
        node: dict[str, Any] = {"num_cpus": 4, "object_store_memory": 150 * 1024 * 1024, "include_dashboard": False}
        Path("/tmp/ray").mkdir(exist_ok=True)  # where Cluster notes the head's address, whatever the temp_dir
        cluster = Cluster()
        try:
            left = cluster.add_node(temp_dir=home, **node)
            right = cluster.add_node(temp_dir=home, **node)
            ray.init(address=cluster.address, log_to_driver=False)
            cluster.wait_for_nodes(timeout=60)
            yield TwoNodes(left.node_id, right.node_id, cluster)
        finally:
            ray.shutdown()
            cluster.shutdown()


START_TRIES, HEAD_SECONDS = 3, 150  # the dashboard's ten processes each import Ray


@dataclass(frozen=True)
class Head:
    """A head node of its own; ``environment`` is what its clients need."""

    address: str
    dashboard: str
    home: Path
    environment: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def running_head(environment: dict[str, str], options: list[str], ip: str, port: int) -> Iterator[Head]:
    """`ray start --head` with a home and ports of its own; whatever belongs to it is ended after it, by pid."""
    with tempfile.TemporaryDirectory(prefix="rh", ignore_cleanup_errors=True) as home:
        names = ("dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
        ports = {name: free_port() for name in names}
        command = ["ray", "start", "--head", f"--node-ip-address={ip}", f"--port={port}", *options]
        command += [f"--temp-dir={home}", *(f"--{name}={number}" for name, number in ports.items())]
        head = Head(f"{ip}:{port}", f"http://127.0.0.1:{ports['dashboard-port']}", Path(home), environment)
        try:
            tries = START_TRIES  # Ray gives a node 30 s, which are too few beside other work
            while (done := run_to_end(command, environment)).returncode:
                end_processes(home, head.address)
                tries -= 1
                assert tries, done.stdout + done.stderr
            deadline = time.monotonic() + HEAD_SECONDS
            while "--include-dashboard=false" not in options and not answers(head.dashboard):
                assert time.monotonic() < deadline, "no dashboard"
                time.sleep(0.3)
            yield head
        finally:
            end_processes(home, head.address)


def run_to_end(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=HEAD_SECONDS, env=environment)


def end_processes(*marks: str) -> None:
    """Ends, by pid, whoever has one of these in its command line, and its children."""
    for process in psutil.process_iter(["cmdline"]):
        if any(mark in " ".join(process.info["cmdline"] or ()) for mark in marks):
            with suppress(psutil.NoSuchProcess):
                for each in (process, *process.children(recursive=True)):
                    each.kill()


@pytest.fixture(scope="module")
def start_head() -> Iterator[Callable[..., Head]]:
    """Starts a head node apart from this process: ``start_head(environment, *options, ip=…, port=…)``."""
    with ExitStack() as stack:

        def start(environment: dict[str, str], *options: str, ip: str = "127.0.0.1", port: int | None = None) -> Head:
            whole = {**os.environ, "RAY_worker_niceness": "0", **environment}  # Ray's own 15 starve beside other work
            return stack.enter_context(running_head(whole, list(options), ip, port or free_port()))

        yield start
