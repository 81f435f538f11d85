"""A server and all processes below it: the CPU time that they took together, and the memory that they hold."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

MIB = 2**20
CLOSE_SECONDS = 60.0


class ProcessTree:
    """The processes below one, the ones that were seen before and live on without their parent included."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._seen: dict[tuple[int, float], psutil.Process] = {}
        self._spent: dict[tuple[int, float], float] = {}  # the last that was seen of each, the dead included

    def look(self) -> list[psutil.Process]:
        """All that live now."""
        with suppress(psutil.Error):  # each may end at any moment
            for process in [self._root, *self._root.children(recursive=True)]:
                self._seen[process.pid, process.create_time()] = process
        return [process for process in self._seen.values() if process.is_running()]

    def ended(self) -> bool:
        """Whether the first of them has."""
        return not self._root.is_running() or self._root.status() == psutil.STATUS_ZOMBIE

    def cpu_seconds(self) -> float:
        """User and system time of all so far; what a process spent after it was last looked at is lost when it dies."""
        for process in self.look():
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._spent[process.pid, process.create_time()] = times.user + times.system
        return sum(self._spent.values())

    def memory_mib(self) -> dict[str, float]:
        """Proportional set size by the process's name and id: pages that processes share are counted once in all."""
        found = {}
        for process in self.look():
            with suppress(OSError, psutil.Error):
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                size = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                found[f"{name_of(process)} {process.pid}"] = size / 1024
        return found

    def named(self, part: str) -> list[psutil.Process]:
        """Those whose name has the part."""
        return [process for process in self.look() if part in name_of(process)]

    def end(self) -> None:
        """Interrupt the server; what is left after a while is killed, by id."""
        processes = self.look()
        with suppress(psutil.Error):
            self._root.send_signal(signal.SIGINT)
        _, left = psutil.wait_procs(processes, CLOSE_SECONDS)
        for process in left:
            with suppress(psutil.Error):
                process.kill()


def name_of(process: psutil.Process) -> str:
    """Ray and vLLM title their processes; of the others the program's first words."""
    with suppress(psutil.Error):
        words = process.cmdline()
        if words and words[0].startswith(("ray::", "VLLM")):
            return words[0].split(" ")[0]
        return " ".join(Path(word).name for word in words[:3])[:60]
    return "gone"


@contextmanager
def running(command: Sequence[str], log: Path, environment: dict[str, str]) -> Iterator[ProcessTree]:
    """A server's processes until the block ends; its output goes to the log."""
    with log.open("w") as file:
        child = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True
        )
        tree = ProcessTree(child.pid)
        try:
            yield tree
        finally:
            tree.end()
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)


def wait_for(tree: ProcessTree, answers: Callable[[], bool], child_log: Path, seconds: float) -> None:
    """Until ``answers()`` is true; SystemExit with the log's end where that is late, or the server has ended."""
    began = time.monotonic()
    while not answers():
        if time.monotonic() - began > seconds or tree.ended():
            raise SystemExit(f"not ready after {time.monotonic() - began:.0f} s:\n{child_log.read_text()[-3000:]}")
        time.sleep(0.5)
