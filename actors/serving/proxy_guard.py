"""What a client is told when its request cannot come back: 503, and when to come again, in OpenAI's error form.

Where a replica dies with a request in hand, Serve's proxy says nothing and its HTTP server makes 500 of that; where it
refuses by itself, it does so in words that no OpenAI client reads. An answer that streams already can only break off.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.middleware import Middleware

from residency.platform.serving.refusals import Refusal

# Ray Serve reads it where a proxy starts: it must stand in the environment of the cluster's nodes before they start
ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}:guards"}
OWN_MARK = b"x-residency-notice"  # on everything that a door says
SERVES_OWN = (408, 429, 503)
RETRY_SECONDS = 1.0

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]


class ProxyGuard:
    """ASGI middleware of Serve's proxy."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0  # of what is held back; -1 once anything has gone out

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                own = any(name == OWN_MARK for name, _ in message.get("headers", ()))
                status = message["status"] if message["status"] in SERVES_OWN and not own else -1
            if status == -1:
                await send(message)

        await self._app(scope, receive, guarded)
        if status != -1:
            await _refuse(send, status)


async def _refuse(send: Send, status: int) -> None:
    if status == 408:
        refusal = Refusal(408, "timeout", "The answer took longer than the server allows.")
    elif status == 0:
        refusal = Refusal(
            503, "replica_lost", "What was answering is gone; ask again.", retry_after_seconds=RETRY_SECONDS
        )
    else:
        refusal = Refusal(503, "busy", "Nothing here can take a request now.", retry_after_seconds=RETRY_SECONDS)
    body = refusal.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": [*headers, *refusal.headers()]})
    await send({"type": "http.response.body", "body": body})


def guards() -> list[Middleware]:
    """For ``ENVIRONMENT``."""
    return [Middleware(ProxyGuard)]
