"""What a run is told from outside: to stop (SIGTERM, its driver's node goes), or that a node which it uses goes.

Nobody here acts on it: the stage that trains comes to its next step boundary and saves; whatever else runs is ended at
once, for the journal knows how far it is.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from residency.platform.errors import ResidencyError, StoppedError

END_SECONDS = 10.0  # from the end of a stage's task being asked for until it is given up


class Notices:
    """One a run. ``stop`` may be called from a signal's handler in the loop; ``leaving`` is the drain watch's."""

    def __init__(self, grace_seconds: float, event: Callable[..., None]) -> None:
        self._grace_seconds, self._event = grace_seconds, event
        self._news, self._stop = asyncio.Event(), asyncio.Event()
        self._stop_at = 0.0
        self._heeded = False
        self._failure: ResidencyError | None = None
        self.stopping: str | None = None
        """Why the run is to stop; None while it is not."""
        self.leaving: Mapping[str, str] = {}
        """Nodes that go, by id, each with why."""

    @property
    def seconds_left(self) -> float:
        """Of the grace, once the run is to stop."""
        return max(0.0, self._stop_at - time.monotonic())

    def stop(self, cause: str, seconds: float | None = None) -> None:
        """Stop within the grace (``seconds``, where that is shorter); told a second time, without any."""
        again = self.stopping is not None
        grace = 0.0 if again else min(self._grace_seconds, self._grace_seconds if seconds is None else seconds)
        self._stop_at = time.monotonic() + grace
        self.stopping = self.stopping or cause
        self._news.set()
        self._stop.set()
        self._event("stop_asked", cause=cause, grace_seconds=round(grace, 1), again=again)

    def fail(self, error: ResidencyError) -> None:
        """The stage ends at once with this error: what it stands on has failed beside it."""
        self._failure = self._failure or error
        self._stop.set()

    def leave(self, nodes: Mapping[str, str]) -> None:
        """These nodes go, all of them each time."""
        if nodes != self.leaving:
            self.leaving = dict(nodes)
            self._news.set()

    def tell(self) -> None:
        """Something else has changed that who trains should look at."""
        self._news.set()

    async def news(self) -> None:
        """Returns when something was told since the last call."""
        await self._news.wait()
        self._news.clear()

    def stopped(self, saved: str) -> StoppedError:
        """What ends the run's stage; ``saved`` says what a new start goes on from."""
        return StoppedError(
            f"the run was stopped by {self.stopping}: {saved}",
            "",
            "start the same command again, here or elsewhere with the same run folder: it goes on where it stopped",
        )

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """The block ends itself, by ``stopped``, soon after it is told to stop: it has something to save."""
        self._heeded = True
        try:
            yield
        finally:
            self._heeded = False

    async def during(self, stage: Awaitable[None]) -> None:
        """The stage, or StoppedError as soon as the run is to stop: at once, or where it is heeded within the grace."""
        task = asyncio.ensure_future(stage)
        try:
            told = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait((task, told), return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if not task.done():
                await self._see_out(task)
        finally:
            task.cancel()
        await task

    async def _see_out(self, task: "asyncio.Future[None]") -> None:
        while self._heeded and self._failure is None and not task.done() and self.seconds_left:
            await asyncio.wait((task,), timeout=min(0.1, self.seconds_left))
        late = self._heeded and not task.done()
        task.cancel()
        await asyncio.wait((task,), timeout=END_SECONDS)
        if self._failure is not None:
            raise self._failure
        if not task.done() or task.cancelled():
            why = "its grace ended in the middle of a step, " if late else ""
            raise self.stopped(f"{why}what is in the journal and the last checkpoint counts")

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """SIGTERM is a notice in the block. Ray sets a handler of its own when it starts: begin after that."""
        loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        loop.add_signal_handler(signal.SIGTERM, self.stop, "SIGTERM")
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            if before is not None:
                signal.signal(signal.SIGTERM, before)
