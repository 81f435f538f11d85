"""What the pools' tests share: workers that can be told to fail, and a pool whose events are kept."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import ray

from residency.platform.errors import DataError
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool

Result = TypeVar("Result")
PATIENCE_SECONDS = 120


def worker_class() -> Any:
    """Local, so that Ray ships it by value."""

    class Worker:
        def __init__(self, fault: str = "") -> None:
            if fault:
                raise ValueError(fault)
            self.version = 0
            self.calls: list[str] = []

        def work(self, key: str, seconds: float = 0.0) -> tuple[str, int, int]:
            self.calls.append(key)
            time.sleep(seconds)
            return key, os.getpid(), self.version

        def end(self, how: str) -> None:
            print(f"about to end: {how}", flush=True)
            if how == "exit":
                raise SystemExit(5)
            os.kill(os.getpid(), getattr(signal, how))
            time.sleep(30)

        def refuse(self) -> None:
            raise DataError("an item that cannot be judged")

        def take(self, version: int) -> int:
            if version < 0:
                raise DataError("wrong digest")
            self.version = version
            return version

        def log(self) -> list[str]:
            return self.calls

    return Worker


class Scene:
    """The events of a pool with their times, and a start that counts."""

    def __init__(self, **options: Any) -> None:
        self.events: list[tuple[float, str, dict[str, Any]]] = []
        self.options = {"num_cpus": 0.05, **options}
        self.faults: list[str] = []

    def start(self, name: str) -> Any:
        arguments = [self.faults.pop()] if self.faults else []
        return ray.remote(worker_class()).options(**self.options).remote(*arguments)

    def note(self, kind: str, **details: Any) -> None:
        self.events.append((time.monotonic(), kind, details))

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [details for _, each, details in self.events if each == kind]

    def when(self, kind: str) -> float:
        return next(moment for moment, each, _ in reversed(self.events) if each == kind)

    def pool(self, **bounds: Any) -> Pool:
        settings = {"role": "worker", "start_seconds": 60, "health_seconds": 2, "grace_seconds": 10} | bounds
        return Pool(PoolConfig(**settings), self.start, events=self.note)

    @property
    def worker_class(self) -> Any:
        return worker_class()

    def run(self, scenario: Callable[[], Awaitable[Result]]) -> Result:
        async def bounded() -> Result:
            try:
                return await asyncio.wait_for(scenario(), PATIENCE_SECONDS)
            except TimeoutError as error:
                raise AssertionError(f"{error or 'it hung'}: {self.events}") from error

        return asyncio.run(bounded())

    def work(self, key: str, seconds: float = 0.0) -> Callable[[Member], Awaitable[Any]]:
        return lambda member: member.handle.work.remote(key, seconds)

    async def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"it did not come to pass: {self.events}"
            await asyncio.sleep(0.02)


@pytest.fixture
def new_scene() -> type[Scene]:
    """Makes a scene; its arguments are Ray actor options of the workers."""
    return Scene
