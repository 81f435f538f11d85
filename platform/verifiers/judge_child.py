"""The process that judges: started by ``judge_process``, one call after the other under its own limits.

``python -m residency.platform.verifiers.judge_child CHANNEL_FD PAGE_FD VERIFIER SECONDS MEMORY_BYTES PARENT_PID``
(VERIFIER empty for our own rules.)
"""

import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from residency.platform.errors import RoleError
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Status
from residency.platform.verifiers.channel import Channel
from residency.platform.verifiers.custom import answers_to_all, judge_one, load_function, verdict_of, version_of
from residency.platform.verifiers.descendants import adopt_orphans, end, end_descendants, left_behind
from residency.platform.verifiers.judge_request import (
    BATCH_INTERFACES,
    Fault,
    JudgeRequest,
    Reply,
    pack_replies,
    unpack_requests,
)
from residency.platform.verifiers.judging import judge
from residency.platform.verifiers.progress import ProgressPage
from residency.platform.verifiers.rules import VERIFIER_VERSION, load_libraries

READY = b"ready"
BLOCK = 64  # replies sent at once at most
BLOCK_SECONDS = 0.002  # and what a reply waits for others at most


class Judging:
    """Our own rules, or the user's function; every exception of theirs becomes a fault with its reason."""

    def __init__(self, verifier: str) -> None:
        self._function: Callable[..., Any] | None = load_function(verifier) if verifier else None
        self.version = version_of(self._function) if self._function else VERIFIER_VERSION

    def call(self, requests: Sequence[JudgeRequest], reward: RewardConfig) -> list[Reply]:
        """One reply a request; a single fault where the call as a whole failed."""
        try:
            if self._function is None:
                return [judge(each.item, each.trace_id, each.text, each.mode, reward) for each in requests]
            if reward.interface not in BATCH_INTERFACES:
                return [judge_one(self._function, self.version, each, reward) for each in requests]
            answers = answers_to_all(self._function, requests, reward)
        except RoleError as error:  # an answer that breaks the contract: fewer samples would hide it
            return [fault_of(error)] * len(requests)
        except Exception as error:  # the boundary: whatever a verifier raises is a fault, with its reason
            return [fault_of(error)]
        return [self._verdict(*row, reward) for row in zip(answers, requests, strict=True)]

    def _verdict(self, answer: Any, request: JudgeRequest, reward: RewardConfig) -> Reply:
        try:
            return verdict_of(answer, request, reward, self.version)
        except Exception as error:  # the boundary, as above: an answer is the user's object, and may raise when read
            return fault_of(error)


def fault_of(error: Exception) -> Fault:
    try:
        return Fault(Status.ERROR, f"{type(error).__name__}: {error}")
    except Exception:  # the boundary, as above: an error whose text cannot be had
        return Fault(Status.ERROR, type(error).__name__)


def end_with_parent(parent: int) -> None:
    """End with everything below once the parent is gone: nobody would be left to kill a judge that hangs."""
    while os.getppid() == parent:
        time.sleep(1)
    end_descendants(os.getpid())
    os.killpg(0, signal.SIGKILL)


def limit_memory(extra_bytes: int) -> None:
    """Allow ``extra_bytes`` of address space above the present (Linux; elsewhere the limit is not enforced)."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def limit_cpu(seconds: float) -> None:
    """The kernel's own stop for one call, also where the parent has died in the meantime."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + seconds * (os.cpu_count() or 1)) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def without_leftovers(replies: list[Reply], known: frozenset[int]) -> list[Reply]:
    """The replies; one fault where the call has left processes behind, which are ended."""
    leftovers = left_behind(known)
    if not leftovers:
        return replies
    for process in leftovers:
        end_descendants(process.pid)
    end(leftovers)
    return [Fault(Status.ERROR, f"left {len(leftovers)} running processes behind")]


def main(channel_fd: int, page_fd: int, verifier: str, seconds: float, memory_bytes: int, parent: int) -> None:
    threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    adopt_orphans()
    channel, page = Channel(socket.socket(fileno=channel_fd)), ProgressPage(page_fd)
    judging = Judging(verifier)
    known = frozenset(child.pid for child in psutil.Process().children())  # what its import has started, it may keep
    channel.send(judging.version.encode(), None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    loaded: set[AnswerKind] | None = None
    while True:
        try:
            requests, reward = unpack_requests(channel.receive(None))
        except EOFError:
            return
        kinds = set[AnswerKind]() if verifier else {request.item.answer_kind for request in requests}
        if loaded is None or not kinds <= loaded:
            load_libraries(kinds)
            loaded = kinds | (loaded or set())
            limit_memory(memory_bytes)  # not anew for each batch: what earlier samples leaked is not free
        os.dup2(nowhere, 2)  # errors of the start are for the parent, a sample's flood is not
        channel.send(READY, None)
        width = len(requests) if reward.interface in BATCH_INTERFACES else 1
        block: list[Reply] = []
        sent = time.monotonic()
        for first in range(0, len(requests), width):
            page.place = first
            limit_cpu(seconds)
            began = time.monotonic()
            block += without_leftovers(judging.call(requests[first : first + width], reward), known)
            now = time.monotonic()
            page.longest_seconds = max(page.longest_seconds, now - began)
            if len(block) >= BLOCK or now - sent >= BLOCK_SECONDS:
                channel.send(pack_replies(block), None)
                block, sent = [], now
        if block:
            channel.send(pack_replies(block), None)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
