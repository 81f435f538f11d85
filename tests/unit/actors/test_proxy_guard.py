"""What Serve's proxy lets out: its own refusals and its silence become refusals in our form, all else passes."""

import asyncio
import json
from typing import Any

import pytest

from residency.actors.serving.proxy_guard import OWN_MARK, ProxyGuard, guards

OWN = [(OWN_MARK, b"Not medical advice.")]


def through(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What comes out of the guard when the proxy sends these."""
    out: list[dict[str, Any]] = []

    async def proxy(_scope: Any, _receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async def send(message: Any) -> None:
        out.append(dict(message))

    async def receive() -> Any:
        raise AssertionError("nothing is read here")

    asyncio.run(ProxyGuard(proxy)({"type": "http"}, receive, send))
    return out


def start(status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ((), 503, "replica_lost"),
        ((start(503, []), {"type": "http.response.body", "body": b"Deployment is unavailable"}), 503, "busy"),
        ((start(408, []), {"type": "http.response.body", "body": b"timed out"}), 408, "timeout"),
    ],
)
def test_what_serve_says_itself_is_said_in_our_form(sent: tuple[Any, ...], status: int, code: str) -> None:
    first, body = through(*sent)
    assert first["status"] == status
    assert json.loads(body["body"])["error"]["code"] == code
    assert (dict(first["headers"]).get(b"retry-after") == b"1") == (status == 503)


@pytest.mark.parametrize(("status", "headers"), [(200, []), (200, OWN), (503, OWN), (429, OWN), (404, [])])
def test_what_a_door_says_passes_unchanged(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    body = {"type": "http.response.body", "body": b"as it is"}
    assert through(start(status, headers), body) == [start(status, headers), body]


def test_a_stream_that_broke_off_gets_nothing_more() -> None:
    sent = (start(200, OWN), {"type": "http.response.body", "body": b"data: ", "more_body": True})
    assert through(*sent) == list(sent)


def test_serve_is_given_the_guard() -> None:
    (guard,) = guards()
    assert guard.cls is ProxyGuard
