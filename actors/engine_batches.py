"""What an engine has under way: generate calls, and their requests that are inside of vLLM."""

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from residency.actors.engine_requests import MediaShelf, Request, Sampled
from residency.platform.sampling import SamplingConfig


@dataclass(kw_only=True)
class Batch:
    """One generate call while it is under way."""

    sampling: SamplingConfig
    shelf: MediaShelf
    waiting: deque[tuple[int, Request]]
    finished: dict[int, Sampled] = field(default_factory=dict)
    done: Future[list[Sampled]] = field(default_factory=Future)
    size: int


@dataclass(kw_only=True)
class Running:
    """One request that is in the engine."""

    batch: Batch
    row: int
    request: Request
    started: float
