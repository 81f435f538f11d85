"""The process that judges: started by ``isolation``, one sample after the other under its own limits.

``python -m residency.platform.verifiers.judge_child FD FUNCTION SECONDS MEMORY_BYTES PARENT_PID``
"""

import importlib
import os
import pickle
import resource
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import cast

from residency.platform.recipe import RewardConfig
from residency.platform.verifiers.channel import Channel
from residency.platform.verifiers.judge_request import JudgeFunction, JudgeRequest, pack_fault, pack_verdict
from residency.platform.verifiers.rules import load_libraries

READY = b"ready"


def resolve(function: str) -> JudgeFunction:
    """The function named by ``module:name``."""
    module, _, name = function.partition(":")
    return cast(JudgeFunction, getattr(importlib.import_module(module), name))


def end_with_parent(parent: int) -> None:
    """End the process group once the parent is gone: nobody would be left to kill a judge that hangs."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def limit_memory(extra_bytes: int) -> None:
    """Allow ``extra_bytes`` of address space above the present (Linux; elsewhere the limit is not enforced)."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def limit_cpu(seconds: float) -> None:
    """The kernel's own stop for one sample, also where the parent has died in the meantime."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def verdict_or_fault(function: JudgeFunction, request: JudgeRequest, reward: RewardConfig) -> bytes:
    try:
        return pack_verdict(function(request.item, request.trace_id, request.text, request.mode, reward))
    except Exception as error:  # the boundary: whatever a verifier raises is that sample's fault, with its reason
        return pack_fault(f"{type(error).__name__}: {error}")


def main(fd: int, function_name: str, seconds: float, memory_bytes: int, parent: int) -> None:
    threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel = Channel(socket.socket(fileno=fd))
    function = resolve(function_name)
    channel.send(READY, None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    while True:
        try:
            frame = channel.receive(None)
        except EOFError:
            return
        requests, reward = cast(tuple[list[JudgeRequest], RewardConfig], pickle.loads(frame))  # from our own parent
        load_libraries({request.item.answer_kind for request in requests})
        os.dup2(nowhere, 2)  # errors of the start are for the parent, a sample's flood is not
        limit_memory(memory_bytes)
        channel.send(READY, None)
        for request in requests:
            limit_cpu(seconds)
            channel.send(verdict_or_fault(function, request, reward), None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
