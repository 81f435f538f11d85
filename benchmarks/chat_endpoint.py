"""A local OpenAI-compatible endpoint in a process of its own, slow and faulty as it is told.

    python benchmarks/chat_endpoint.py --port-file P --log L --mean-ms 500 [--errors 0.01] [--malformed 0.01]

Latency is log-normal with σ = 0.6 around the given mean: one request in a hundred takes 3.4 times that. Each request is
logged with its id when it comes and when it is answered. Faults are drawn by the id, so that equal runs meet equal
faults: ``errors`` is the share of ids whose first attempt gets HTTP 500, and a twentieth of them get nothing else;
``malformed`` of those that get no completion, an empty one, or half a body. ``burst``: for so many seconds from a given
request on, everything is refused with 429.
"""

import argparse
import asyncio
import hashlib
import math
import random
import time
from pathlib import Path

from aiohttp import web

SIGMA = 0.6
BODY = (
    b'{"id":"c","object":"chat.completion","created":0,"model":"local","choices":[{"index":0,"message":{"role":'
    b'"assistant","content":"%s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":60,"completion_tokens":%d,'
    b'"total_tokens":100}}'
)
TEXT = b"<think>the margin is smooth and the density is even, so nothing speaks for it.</think><answer>yes</answer>"


def chance(request_id: str, what: str) -> float:
    """A number in 0–1 that depends on the request and on nothing else."""
    return int.from_bytes(hashlib.sha256(f"{what}/{request_id}".encode()).digest()[:6], "big") / 2**48


class Endpoint:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.mu = math.log(arguments.mean_ms / 1000) - SIGMA**2 / 2
        self.errors, self.malformed, self.burst = arguments.errors, arguments.malformed, arguments.burst
        self.refuse_from = arguments.burst_from
        self.log = open(arguments.log, "a", buffering=1 << 16)  # noqa: SIM115
        self.rng = random.Random(arguments.seed)
        self.number = self.in_flight = self.most_in_flight = 0
        self.burst_ends = math.inf

    async def chat(self, request: web.Request) -> web.Response:
        self.number += 1
        name = request.headers.get("X-Client-Request-Id", f"-{self.number}")
        await request.read()
        if self.burst and self.number >= self.refuse_from:
            if self.burst_ends == math.inf:
                self.burst_ends = time.monotonic() + self.burst
            if time.monotonic() < self.burst_ends:
                self.note("refused", name)
                return web.Response(status=429, headers={"Retry-After": "1"}, text='{"error":{"message":"slow down"}}')
        self.note("came", name)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.rng.lognormvariate(self.mu, SIGMA))
        finally:
            self.in_flight -= 1
        base, _, attempt = name.partition("#")
        fails = chance(base, "500") < self.errors
        if fails and (not attempt or chance(base, "dead") < 0.05):
            self.note("500", name)
            return web.Response(status=500, text='{"error":{"message":"out of memory"}}')
        self.note("answered", name)
        if self.malformed and chance(base, "malformed") < self.malformed:
            body = (b"<html>gateway</html>", BODY % (b"", 0), BODY[:60])[int(chance(base, "kind") * 3)]
            return web.Response(body=body, content_type="application/json")
        return web.Response(body=BODY % (TEXT, 40), content_type="application/json")

    def note(self, what: str, name: str) -> None:
        self.log.write(f"{what} {name}\n")

    async def stats(self, _: web.Request) -> web.Response:
        self.log.flush()
        return web.json_response({"requests": self.number, "most_in_flight": self.most_in_flight})


async def serve(arguments: argparse.Namespace) -> None:
    endpoint = Endpoint(arguments)
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", endpoint.chat)
    app.router.add_get("/stats", endpoint.stats)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", arguments.port, backlog=1024)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # pyright: ignore
    aside = arguments.port_file.with_suffix(".partial")
    aside.write_text(str(port))
    aside.replace(arguments.port_file)
    while True:
        await asyncio.sleep(0.2)
        endpoint.log.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mean-ms", type=float, default=500.0)
    parser.add_argument("--errors", type=float, default=0.0)
    parser.add_argument("--malformed", type=float, default=0.0)
    parser.add_argument("--burst", type=float, default=0.0)
    parser.add_argument("--burst-from", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(serve(parser.parse_args()))
