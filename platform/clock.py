"""Time, handed to what waits: the machine's own, or a simulated one that jumps from wake-up to wake-up.

clock = SimulatedClock()
clock.run(hours_of_work(clock))     # done at once, and the same every time
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")


class Clock(Protocol):
    """``sleep`` is to be awaited on a loop that ``new_loop`` made. Seconds; the zero point means nothing."""

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...

    def new_loop(self) -> asyncio.AbstractEventLoop: ...


class RealClock:
    """The machine's clock; any loop will do."""

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()


class SimulatedClock:
    """Stands still while anything runs; when everyone sleeps it jumps to the next wake-up.

    Its loops keep all of asyncio's time by it, deadlines too. Work in other threads takes no simulated time: while some
    is under way through a loop's executor, the clock waits for it.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _SimulatedLoop), "a simulated sleep on a loop that another clock moves"
        await asyncio.sleep(seconds)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return _SimulatedLoop(self)

    def run(self, main: Coroutine[Any, Any, Result]) -> Result:
        """Like ``asyncio.run``, in this clock's time."""
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            return runner.run(main)

    def advance(self, seconds: float) -> None:
        """Moves time on; called by its loop when nothing else is left to do."""
        self._now += seconds


class _Selector(selectors.DefaultSelector):
    """Asks for events without waiting; where the loop would have slept, the clock jumps instead."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__()
        self.clock = clock
        self.num_outside = 0  # calls that other threads work on

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.num_outside:
            return super().select(timeout if timeout is None or timeout <= 0 else None)
        events = super().select(0)
        if not events:
            self.clock.advance(timeout)
        return events


class _SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: SimulatedClock) -> None:
        self._jumps = _Selector(clock)
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.clock.monotonic()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., Result], *args: Any
    ) -> "asyncio.Future[Result]":
        future = super().run_in_executor(executor, func, *args)
        self._jumps.num_outside += 1
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: "asyncio.Future[Any]") -> None:
        self._jumps.num_outside -= 1
