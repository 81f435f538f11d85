"""The door of a served model: an API key for every request, and only the paths that are meant to be used.

Plain ASGI, without Ray and vLLM. It stands outside vLLM's own application, which also carries routes for operating the
engine (load adapters, reset caches, …) that nobody should reach from outside.
"""

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/health"})
GUARDED_PATHS = frozenset({"/v1/models", "/v1/chat/completions", "/v1/completions"})


def key_digest(api_key: str) -> str:
    """SHA-256 of the key: what the server keeps, so that the key itself is in no configuration and no log."""
    return hashlib.sha256(api_key.encode()).hexdigest()


class KeyGuard:
    """401 without the right bearer key, 404 for other paths, both in OpenAI's error form; else the application."""

    def __init__(self, app: AsgiApp, digest: str) -> None:
        self._app, self._digest = app, digest

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket is closed before it is accepted: answered with 403
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in OPEN_PATHS:
            await self._app(scope, receive, send)
        elif not self._authorized(scope):
            await _refuse(send, 401, "Incorrect or missing API key.", "invalid_request_error", "invalid_api_key")
        elif path not in GUARDED_PATHS:
            await _refuse(send, 404, f"Unknown path {path}.", "invalid_request_error", "unknown_url")
        else:
            await self._app(scope, receive, send)

    def _authorized(self, scope: Message) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, key = given[0].partition(b" ")
        digest = hashlib.sha256(key.strip()).hexdigest()
        return scheme.lower() == b"bearer" and secrets.compare_digest(digest, self._digest)


async def _refuse(send: Send, status: int, message: str, kind: str, error: str) -> None:
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": error}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
