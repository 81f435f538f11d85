"""Requests and weight updates of one engine kept apart: an update waits for the requests before it and holds up those
after it, so that every answer is wholly by one version."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from residency.platform.serving.refusals import Refusal


class VersionGate:
    """Many requests at once, or one update. For one event loop."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._changed = asyncio.Condition()
        self.running = 0
        self.present = 0  # running, or waiting for an update to end
        self.updating = False

    async def enter(self) -> None:
        """Take a request's place; raises Refusal (503) where an update takes too long. ``leave`` must follow."""
        self.present += 1
        if self.updating:
            try:
                async with asyncio.timeout(self._patience), self._changed:
                    await self._changed.wait_for(lambda: not self.updating)
            except BaseException as error:
                self.present -= 1
                if not isinstance(error, TimeoutError):
                    raise
                raise Refusal(
                    503, "updating", "New weights are being loaded.", retry_after_seconds=self._patience
                ) from None
        self.running += 1

    def leave(self) -> None:
        """Give a request's place back."""
        self.running -= 1
        self.present -= 1
        if self.updating and not self.running:
            asyncio.get_running_loop().create_task(self._wake())

    @asynccontextmanager
    async def update(self) -> AsyncIterator[None]:
        """Alone with the engine; TimeoutError where the requests before it do not end within the patience."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.updating)
            self.updating = True
            try:
                async with asyncio.timeout(self._patience):
                    await self._changed.wait_for(lambda: not self.running)
            except BaseException:
                self._open()
                raise
        try:
            yield
        finally:
            async with self._changed:
                self._open()

    def _open(self) -> None:
        self.updating = False
        self._changed.notify_all()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()
