"""What both parts of the weights benchmark stand on: their processes, answers with a deadline, and the clock."""

import sys
import time
from collections.abc import Callable
from typing import Any

import ray

DEADLINE_SECONDS = 600.0
GB = 10**9


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def answer(reference: Any) -> Any:
    return ray.get(reference, timeout=DEADLINE_SECONDS)


def start(role: type, *arguments: Any) -> Any:
    """Handle of a plain process of this role."""
    remote: Any = ray.remote(role)
    return remote.options(num_cpus=0).remote(*arguments)


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
