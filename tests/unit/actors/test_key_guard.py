import asyncio
import json
from typing import Any

import pytest

from residency.actors.key_guard import KeyGuard, Message, Receive, Send, key_digest


async def inner(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


async def nothing() -> Message:
    return {"type": "http.request"}


def call(path: str, *authorization: bytes, kind: str = "http", root: str = "") -> tuple[list[Message], dict[str, Any]]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "path": path,
        "root_path": root,
        "headers": [(b"authorization", value) for value in authorization],
    }
    asyncio.run(KeyGuard(inner, key_digest("secret"))(scope, nothing, send))
    body = sent[-1].get("body", b"")
    return sent, json.loads(body) if body.startswith(b"{") else {}


@pytest.mark.parametrize("given", [b"Bearer secret", b"bearer secret", b"Bearer  secret "])
def test_the_right_key_opens(given: bytes) -> None:
    sent, _ = call("/v1/chat/completions", given)
    assert sent[0]["status"] == 200


@pytest.mark.parametrize(
    "given", [(), (b"Bearer other",), (b"secret",), (b"Basic secret",), (b"Bearer",), (b"\xff\xfe",)]
)
def test_anything_else_is_refused_in_openai_form(given: tuple[bytes, ...]) -> None:
    sent, body = call("/v1/chat/completions", *given)
    assert sent[0]["status"] == 401
    assert body["error"]["code"] == "invalid_api_key"
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_two_headers_are_refused() -> None:
    sent, _ = call("/v1/models", b"Bearer secret", b"Bearer secret")
    assert sent[0]["status"] == 401


def test_only_health_is_open_and_only_the_api_is_there() -> None:
    assert call("/health")[0][0]["status"] == 200
    assert call("/v1/load_lora_adapter", b"Bearer secret")[0][0]["status"] == 404
    assert call("/v1/load_lora_adapter")[0][0]["status"] == 401  # what exists is nobody's business without a key
    assert call("/prefix/v1/models", b"Bearer secret", root="/prefix")[0][0]["status"] == 200


def test_websockets_are_closed() -> None:
    assert call("/v1/realtime", b"Bearer secret", kind="websocket")[0] == [{"type": "websocket.close", "code": 1008}]
