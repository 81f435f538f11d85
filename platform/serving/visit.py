"""One HTTP request on its way through the door, in plain ASGI: reading its body, sending its response."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from residency.platform.registry.answer_form import AnswerForm
from residency.platform.serving.key_ring import ApiKey
from residency.platform.serving.refusals import Refusal, bad_request
from residency.platform.serving.replies import Reply
from residency.platform.serving.serving_state import NOTICE

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
JSON = b"application/json"


@dataclass(slots=True)
class Visit:
    """A request, and what the audit log will say of it."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    receive: Receive
    send: Send
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: float = field(default_factory=time.perf_counter)
    caller: ApiKey | None = None
    model: str = ""
    mode: str = ""
    chosen: str = ""  # the version that the session was sent to; another may have answered in its place
    form: AnswerForm | None = None  # read while a canary is watched
    reply: Reply | None = None
    begun: bool = False  # whether the response has begun

    @property
    def key(self) -> ApiKey:
        """The caller of a route behind the key."""
        assert self.caller is not None
        return self.caller

    @property
    def content_type(self) -> bytes:
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

    async def read_json(self, most_bytes: int) -> Any:
        """The body as JSON; raises Refusal for another kind, for too much, and for what cannot be read."""
        if self.content_type != JSON:
            raise Refusal(415, "unsupported_media_type", "The body must be application/json.")
        try:
            return json.loads(await self.read_body(most_bytes), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise bad_request(f"The body is not JSON ({str(error)[:120]}).", code="invalid_json") from error

    async def read_body(self, most_bytes: int) -> bytes:
        """The body; raises Refusal (413) as soon as it is known to be too large."""
        announced = self.headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > most_bytes:
            raise _too_large(most_bytes)
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            piece = message.get("body", b"")
            size += len(piece)
            if size > most_bytes:
                raise _too_large(most_bytes)
            pieces.append(piece)
            if not message.get("more_body"):
                return b"".join(pieces)

    async def respond(self, status: int, body: bytes, kind: bytes = JSON, extra: Headers | None = None) -> None:
        """A whole response."""
        self.begun = True
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *self._own(), *(extra or ())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def send_reply(self, reply: Reply) -> None:
        """A reply of a model, whole or as it streams in."""
        version = [(b"x-residency-version", reply.label["version"].encode())]
        if reply.stream is None:
            await self.respond(reply.status, reply.body, extra=version)
            return
        self.begun = True
        headers = [(b"content-type", b"text/event-stream"), *self._own(), *version]
        await self.send({"type": "http.response.start", "status": reply.status, "headers": headers})
        async for piece in reply.stream:
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    def _own(self) -> Headers:
        """Nothing of ours is to be kept by caches or read as anything else."""
        return [
            (b"x-request-id", self.id.encode()),
            (b"x-residency-notice", NOTICE.encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"The body is larger than {most // 2**20} MiB.")
