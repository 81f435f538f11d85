"""A real local endpoint whose answers a test writes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.Response]]


def completion(text: object, **more: object) -> web.Response:
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "model": "m-2026",
            "usage": {"prompt_tokens": 1000, "completion_tokens": 500}, **more}  # fmt: skip
    return web.json_response(body)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """The address of an endpoint that answers so."""

    async def chat(request: web.Request) -> web.Response:
        return await answer(request, await request.json())

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@pytest.fixture
def with_endpoint() -> Callable[[Answer, Callable[[str], Awaitable[None]]], None]:
    """Runs a coroutine with the address of an endpoint; the whole has 30 s."""

    def run(answer: Answer, test: Callable[[str], Awaitable[None]]) -> None:
        async def both() -> None:
            async with serving(answer) as url:
                await asyncio.wait_for(test(url), 30.0)

        asyncio.run(both())

    return run


@pytest.fixture
def complete() -> Callable[..., web.Response]:
    return completion
