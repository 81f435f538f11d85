"""One worker of a pool: its handle for the callers, its state for the pool."""

import asyncio
import time
from enum import Enum
from typing import Any

from residency.platform.causes import Birth


class State(Enum):
    """STARTING → READY → LEAVING → GONE; from any of them straight to GONE by death."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    GONE = "gone"


class Member:
    """Callers use ``name`` and ``handle``; the rest belongs to the pool.

    A handle with an attribute ``host`` is one of many workers in that actor: the host is probed and asked where it
    is, and the pool never ends it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.handle: Any = None
        self.state = State.STARTING
        self.birth: Birth | None = None
        self.started = time.monotonic()
        self.in_flight = 0  # written by the line
        self.idle_since = self.started
        self.num_finished = 0
        self.num_occupied = 0
        """Verbs of ``each`` that it is at."""
        self.suspect = False
        self.probing = False
        self.unavailable = False
        self.spent = False
        """It died with what it had in flight: that counts against each request; leaving or being dismissed does not."""
        self.evicted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once its requests must go elsewhere."""
        self.drained = asyncio.Event()
        self.cause: asyncio.Task[str] | None = None

    @property
    def actor(self) -> Any:
        """The Ray actor that lives or dies."""
        return getattr(self.handle, "host", self.handle)

    @property
    def shared(self) -> bool:
        return hasattr(self.handle, "host")

    @property
    def busy(self) -> bool:
        return self.in_flight > 0 or self.num_occupied > 0

    @property
    def place(self) -> dict[str, Any]:
        """Process and node, for events."""
        return {"pid": self.birth.pid, "node": self.birth.node_id} if self.birth else {}

    def evict(self) -> None:
        self.state = State.GONE
        if not self.evicted.done():
            self.evicted.set_result(None)
