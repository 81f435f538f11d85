"""What answers a request: a status, who answered, and a body that is there or streams."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Usage:
    """Tokens of a request; of a stream they are known when it has ended."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(kw_only=True, slots=True)
class Reply:
    """``label`` says who answered (model, checkpoint, version, notice). One of ``body`` and ``stream`` is given.

    Whoever gets a reply closes it: ``release`` gives back what it holds, also where its stream was never begun.
    """

    status: int
    label: dict[str, str]
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None
    usage: Usage = field(default_factory=Usage)
    release: Callable[[], None] | None = None

    async def close(self) -> None:
        """End the stream, wherever it is; what is asked for no more is not computed."""
        release, self.release = self.release, None
        try:
            if self.stream is not None:
                await self.stream.aclose()
        finally:
            if release is not None:
                release()
