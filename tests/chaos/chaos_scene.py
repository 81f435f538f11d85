"""Where a chaos run takes place: two Ray nodes of its own, a driver process, a disk, and which process is who."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from chaos_job import WORK, Kind

HERE = Path(__file__).resolve().parent
STORE_BYTES = 80 * 2**20  # Ray's least, and a little
DISK_BYTES = {"light": 48 * 2**20, "deepspeed": 1 << 30, "vllm": 1 << 30}
DEADLINES = {"light": 600.0, "deepspeed": 600.0, "vllm": 600.0}  # of one answer of a role, in the driver
LIVES = 12  # drivers of one run, all together
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_max_direct_call_object_size": "2048",  # so that small groups too lie in the nodes' stores, and can be lost
    "RAY_health_check_period_ms": "1000",  # a node is lost after some seconds, not half a minute
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_worker_niceness": "0",  # 15 by default: beside anything else on the machine, workers would stand still
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",  # starts are what a chaos run spends its time on
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # workers find the stand-in for the learner, and the code that stands beside this suite, installed or not
    "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parents[1] / "src"))),
}


class Nodes:
    """A head and one node that may be lost, on this machine; only their own processes are ever ended."""

    def __init__(self, home: Path) -> None:
        os.environ.update(ENVIRONMENT)  # before Ray is imported
        from ray.cluster_utils import Cluster

        Path("/tmp/ray").mkdir(exist_ok=True)  # where Cluster notes the head's address, whatever the temp_dir
        self._options: dict[str, Any] = {
            "object_store_memory": STORE_BYTES, "include_dashboard": False, "temp_dir": str(home)
        }  # fmt: skip
        self.cluster = Cluster()
        self.head = self._add(num_cpus=8)
        self.work: Any = None
        self.add_work()

    def add_work(self) -> None:
        """The node that may be lost, in place of one that is gone."""
        if self.work is not None:
            with contextlib.suppress(OSError, AssertionError):  # its processes may be dead already
                self.cluster.remove_node(self.work, allow_graceful=False)
        self.work = self._add(num_cpus=8, labels=WORK, wait=False)

    def _add(self, **options: Any) -> Any:
        """Ray takes SIGTERM for itself with each node that it starts; here it ends the suite, which ends its nodes."""
        ours = signal.getsignal(signal.SIGTERM)
        try:
            return self.cluster.add_node(**options, **self._options)
        finally:
            signal.signal(signal.SIGTERM, ours)

    @staticmethod
    def raylet(node: Any) -> psutil.Process:
        return psutil.Process(node.all_processes["raylet"][0].process.pid)

    def roles(self, actor_class: str) -> list[psutil.Process]:
        """Live processes of that actor class on these nodes, the oldest first."""
        found = []
        for node in (self.head, self.work):
            with contextlib.suppress(psutil.Error, KeyError):
                for process in self.raylet(node).children():
                    with contextlib.suppress(psutil.Error):
                        title = " ".join(process.cmdline())
                        if title.startswith(f"ray::{actor_class}") and process.status() != psutil.STATUS_ZOMBIE:
                            found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def close(self) -> None:
        with contextlib.suppress(psutil.Error, KeyError):  # it may be gone already
            self.raylet(self.work).send_signal(signal.SIGCONT)
        self.cluster.shutdown()


class Scene:
    """One run: its folder, its driver's lives, and what each ended with."""

    def __init__(self, folder: Path, log: Path, nodes: Nodes, kind: Kind) -> None:
        """``log`` takes what the drivers say; not on a disk that is to be filled, or their last words are cut."""
        self.folder, self.log, self.nodes, self.kind = folder, log, nodes, kind
        self.run = folder / "run"
        self.driver: subprocess.Popen[bytes] | None = None
        self.second: subprocess.Popen[str] | None = None  # waits for its time to disturb the first
        self.lives = 0
        self.ends: list[str] = []  # drivers that ended by themselves before the run was done, each with its last words

    def command(self) -> list[str]:
        return [sys.executable, str(HERE / "rl_driver.py"), str(self.run), self.kind, str(DEADLINES[self.kind])]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "RAY_ADDRESS": str(self.nodes.cluster.address)}

    def start_driver(self) -> None:
        if self.lives >= LIVES:
            raise RuntimeError(f"{self.lives} drivers did not finish the run: {self.ends}")
        self.lives += 1
        with self.log.open("ab") as log:
            self.driver = subprocess.Popen(self.command(), stdout=log, stderr=log, env=self.environment())

    def load_second_driver(self) -> None:
        """Its code takes longer to load than some steps take: it is to be ready when its time comes."""
        self.second = subprocess.Popen(
            [*self.command(), "wait"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, env=self.environment(),
        )  # fmt: skip

    def ended(self) -> int | None:
        """The driver's exit code, or None while it lives."""
        assert self.driver is not None
        return self.driver.poll()

    def kill_driver(self) -> None:
        assert self.driver is not None
        self.driver.kill()
        self.driver.wait(30)

    def note_end(self) -> str:
        """The last words of a driver that ended by itself."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if "Error" in line][-1:] or lines[-1:]
        words = f"exit code {self.ended()}: {' '.join(said)[:400]}"
        self.ends.append(words)
        return words

    def holds_the_lock(self) -> bool:
        assert self.driver is not None
        try:
            return json.loads((self.run / "journal" / "lock").read_bytes())["pid"] == self.driver.pid
        except (OSError, ValueError, KeyError):
            return False

    def journal_bytes(self) -> int:
        total = 0
        for path in (self.run / "journal").glob("segment-*.log"):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def close(self) -> None:
        if self.driver is not None and self.driver.poll() is None:
            self.kill_driver()
        if self.second is not None:
            self.second.kill()
            self.second.wait(30)


def wait_until(holds: Any, seconds: float, pause: float = 0.02) -> bool:
    """Whether it came to hold within so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


@contextmanager
def started_nodes() -> Iterator[Nodes]:
    """Two nodes with a home of their own; socket paths must be short."""
    with tempfile.TemporaryDirectory(prefix="rx", ignore_cleanup_errors=True) as home:
        nodes = Nodes(Path(home))
        try:
            yield nodes
        finally:
            nodes.close()


@contextmanager
def small_disk(folder: Path, kind: Kind) -> Iterator[bool]:
    """A disk of its own for a run that is to fill it; False where none may be mounted here."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES[kind]}", "chaos", str(folder)]
    tool = shutil.which("mount")
    mounted = tool is not None and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
