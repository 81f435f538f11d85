"""Clients of an OpenAI-compatible server: chats with a picture each, whole or streamed, in a closed or an open loop."""

import asyncio
import base64
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from serving_sides import TEXTS, Side

SECONDS = 120.0  # no request waits longer
BROKEN = "no answer"  # of a connection that was closed before the answer was whole


@dataclass(slots=True)
class Timed:
    """One answer."""

    status: int
    seconds: float
    first_token_seconds: float = 0.0
    num_chunks: int = 0


@dataclass(slots=True)
class Tally:
    """What came of an open loop: answers by status, or by what was wrong instead."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of those that were answered with 200


def chat(model: str, number: int, tokens: int, stream: bool = False) -> dict[str, Any]:
    """A question about a picture of its own; the answer is of a fixed length."""
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (84, 84, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": TEXTS[0]}]
    return {
        "model": model,
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": stream,
    }


def client(side: Side) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {side.key}", "Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(total=SECONDS),
        connector=aiohttp.TCPConnector(limit=0),
    )


def encoded(bodies: list[dict[str, Any]]) -> list[bytes]:
    """As they are sent: made before the clock runs."""
    return [json.dumps(body).encode() for body in bodies]


async def ask(session: aiohttp.ClientSession, url: str, body: bytes) -> Timed:
    """One chat to its end; raises aiohttp.ClientError or TimeoutError where there is no whole answer."""
    began, first, chunks = time.perf_counter(), 0.0, 0
    async with session.post(f"{url}/v1/chat/completions", data=body) as answer:
        if answer.content_type != "text/event-stream":
            await answer.read()
            return Timed(answer.status, time.perf_counter() - began)
        last = b""
        async for line in answer.content:
            if line.startswith(b"data: "):
                last = line
                if not chunks and b'"content":""' not in line:
                    first = time.perf_counter() - began
                chunks += bool(first)
        if last.strip() != b"data: [DONE]":
            raise aiohttp.ClientPayloadError("the stream ended early")
        return Timed(answer.status, time.perf_counter() - began, first, chunks - 1)


async def closed_loop(side: Side, bodies: Sequence[bytes], num_clients: int) -> list[Timed]:
    """Every body once, so many at a time; a failure fails the run."""
    waiting, done = list(bodies), []

    async def work(session: aiohttp.ClientSession) -> None:
        while waiting:
            answer = await ask(session, side.url, waiting.pop())
            assert answer.status == 200, answer
            done.append(answer)

    async with client(side) as session:
        await asyncio.gather(*(work(session) for _ in range(num_clients)))
    return done


async def capacity(side: Side, bodies: Sequence[bytes], num_clients: int, seconds: float) -> float:
    """Answers a second when so many clients ask all the time."""
    began, count = time.monotonic(), 0

    async def work(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal count
        while time.monotonic() - began < seconds:
            answer = await ask(session, side.url, bodies[number % len(bodies)])
            assert answer.status == 200, answer
            count += 1

    async with client(side) as session:
        await asyncio.gather(*(work(session, number) for number in range(num_clients)))
    return count / (time.monotonic() - began)


async def open_loop(side: Side, bodies: Sequence[bytes], rate: float, seconds: float) -> Tally:
    """So many requests a second, whatever comes of those before."""
    tally, began = Tally(), time.monotonic()
    running: set[asyncio.Task[None]] = set()

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        try:
            answer = await ask(session, side.url, bodies[number % len(bodies)])
        except (aiohttp.ClientError, TimeoutError) as error:
            tally.outcomes[f"{BROKEN}: {type(error).__name__}"] += 1
            return
        tally.outcomes[str(answer.status)] += 1
        if answer.status == 200:
            tally.seconds.append(answer.seconds)

    async with client(side) as session:
        number = 0
        while (now := time.monotonic() - began) < seconds:
            while number < now * rate:
                task = asyncio.create_task(one(session, number))
                running.add(task)
                task.add_done_callback(running.discard)
                number += 1
            await asyncio.sleep(0.01)
        await asyncio.gather(*running)
    return tally


async def retrying_client(side: Side, body: dict[str, Any], stop: Callable[[], bool]) -> Counter[str]:
    """OpenAI's own client, told to try again: what came of each question, one after the other."""
    from openai import AsyncOpenAI, OpenAIError

    outcomes: Counter[str] = Counter()
    given = {name: value for name, value in body.items() if name not in ("ignore_eos", "stream")}
    async with AsyncOpenAI(base_url=f"{side.url}/v1", api_key=side.key, max_retries=60, timeout=SECONDS) as openai:
        while not stop():
            try:
                await openai.chat.completions.create(**given, extra_body={"ignore_eos": True})
                outcomes["answered"] += 1
            except OpenAIError as error:
                outcomes[type(error).__name__] += 1
    return outcomes
