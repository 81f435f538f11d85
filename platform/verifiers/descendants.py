"""Processes that a judge has started, however they were detached from it: found, and ended."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Container
from contextlib import suppress

import psutil

MARK = "RESIDENCY_JUDGE"  # in the environment of a judge and of whatever it starts
PR_SET_CHILD_SUBREAPER = 36
ENDING_SECONDS = 5.0
# Kept by Python for the process that asked, not by the sample: they end with it.
PYTHONS_OWN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def adopt_orphans() -> None:
    """On Linux, whatever was started below becomes our child once its own parent ends, in our session or out of it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_living(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def has_children() -> bool:
    """Whether this process has any child, living or ended; one call of the kernel where there is none."""
    if sys.platform != "linux":
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def left_behind(known: Container[int], patience_seconds: float = 0.1) -> list[psutil.Process]:
    """Children of this process that still live after a moment and are not ``known``."""
    if not has_children():
        return []
    new = [child for child in psutil.Process().children() if child.pid not in known and is_living(child)]
    deadline = time.monotonic() + patience_seconds
    while (new := [child for child in new if is_living(child)]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return [child for child in new if not any(name in " ".join(command_of(child)) for name in PYTHONS_OWN)]


def command_of(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def end_descendants(pid: int) -> None:
    """Kill everything below a process, again and again until nothing lives: what is killed may have been forking."""
    deadline = time.monotonic() + ENDING_SECONDS
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        while living := [child for child in root.children(recursive=True) if is_living(child)]:
            end(living)
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)


def end_marked(mark: str) -> None:
    """Kill what carries a judge's mark: orphans of one that has crashed, which are nobody's children any more."""
    deadline = time.monotonic() + ENDING_SECONDS
    while time.monotonic() < deadline:
        marked: list[psutil.Process] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # ended meanwhile, or another user's
                if process.environ().get(MARK) == mark and is_living(process):
                    marked.append(process)
        if not marked:
            return
        end(marked)


def stop(pid: int) -> None:
    """Suspend a process, so that it starts nothing more while its descendants are ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
