"""Malformed requests by the thousand, held against the server's own OpenAPI document.

Two sources: ``serving_nonsense`` (JSON, pictures, HTTP itself) and schemathesis, which breaks the document's own rules.
A status that the document does not name for a route is a fault; so is 500, which it does name: nonsense is the
caller's fault. So is a refusal that is not in OpenAI's error form, and any process that is not there afterwards.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
from serving_nonsense import Request, nonsense
from serving_processes import ProcessTree
from serving_sides import Side, build_model, our_server

PARALLEL = 16
SECONDS = 60.0
RAW_SECONDS = 1.0  # a request that is not whole is waited for no longer
BODILESS = 408, 500  # Serve's own words
ELSEWHERE = {401, 404, 405}  # on paths that the document does not know
SERVES_OWN = {f"/-/{name}": {200, 503} for name in ("healthz", "routes")}  # Ray Serve's, for probes: any method
BROKEN = {400, 431}  # where the request is not HTTP: the parser's answer, in no form of ours
UNANSWERED = "closed or waiting"
SCHEMA_SHARE = 0.2


@dataclass(slots=True)
class Findings:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)

    def fault(self, what: str, request: Any, answer: Any = "") -> None:
        if len(self.faults) < 40:
            self.faults.append({"what": what, "request": str(request)[:700], "answer": str(answer)[:300]})
        self.statuses["faults"] += 1


class Documented:
    """Which statuses the server's own document allows."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._statuses = {
            (path, method.upper()): {int(status) for status in route["responses"]}
            for path, methods in document["paths"].items()
            for method, route in methods.items()
        }

    def allowed(self, method: str, path: str) -> set[int]:
        return self._statuses.get((path, method), ELSEWHERE)

    def judge(self, found: Findings, kind: str, request: Any, method: str, path: str, status: int, body: bytes) -> None:
        """Count the answer; note what is wrong with it."""
        found.statuses[f"{kind} {status}"] += 1
        if status not in self.allowed(method, path) or status == 500:
            found.fault(f"{method} {path} answered {status}", request, body)
        elif status >= 400 and status not in BODILESS and not _is_error(body):
            found.fault(f"{status} without an error document", request, body)


def _is_error(body: bytes) -> bool:
    try:
        return {"message", "type", "param", "code"} <= json.loads(body)["error"].keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


async def send_nonsense(url: str, key: str, model: str, count: int, documented: Documented, seed: int = 0) -> Findings:
    """So many requests of ``serving_nonsense``, several at a time."""
    found, numbers = Findings(), iter(range(count))

    async def work(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            request = nonsense(random.Random(seed * 10**9 + number), model, key)
            if request.raw:
                await _send_raw(url, request, documented, found)
            else:
                await _send(session, url, request, documented, found)

    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}, timeout=timeout) as session:
        await asyncio.gather(*(work(session) for _ in range(PARALLEL)))
    return found


async def _send(
    session: aiohttp.ClientSession, url: str, request: Request, documented: Documented, found: Findings
) -> None:
    headers = {"Content-Type": request.content_type} if request.content_type else {}
    try:
        async with session.request(request.method, url + request.path, data=request.body, headers=headers) as answer:
            body = await answer.read()
            documented.judge(found, request.kind, request, request.method, request.path, answer.status, body)
    except (aiohttp.ClientError, TimeoutError) as error:
        found.fault(f"no answer: {type(error).__name__} {error}", request)


async def _send_raw(url: str, request: Request, documented: Documented, found: Findings) -> None:
    """On a connection of its own. Nothing may come back; what does is HTTP, with a status that is documented."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        writer.write(request.raw)
        while not answer or answer.startswith(b"HTTP/1.1 100 "):  # which only says: go on
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), RAW_SECONDS)
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        found.statuses[f"http {UNANSWERED}"] += 1
        return
    finally:
        writer.close()
    words = answer.split(b" ", 2)
    if not answer.startswith(b"HTTP/1.1 ") or not words[1].isdigit():
        found.fault("no HTTP came back", request, answer)
        return
    method, path, *_ = [*request.raw.decode("latin-1").splitlines()[0].split(), "", ""]  # as lenient as the parser
    path = urlsplit(path).path
    allowed = documented.allowed(method, path) | ELSEWHERE | BROKEN | SERVES_OWN.get(path, set())
    status = int(words[1])
    found.statuses[f"http {status}"] += 1
    if status not in allowed or status == 500:
        found.fault(f"answered {status}", request, answer)


def send_schema_breakers(url: str, key: str, count: int, documented: Documented, seed: int = 0) -> Findings:
    """So many of schemathesis: requests that break the document, of every route that takes any."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    found = Findings()
    schema = schemathesis.openapi.from_dict(documented.document)
    operations = [schema[path]["POST"] for path, routes in documented.document["paths"].items() if "post" in routes]
    with httpx.Client(timeout=SECONDS, headers={"Authorization": f"Bearer {key}"}) as client:
        for number, operation in enumerate(operations):
            settled = settings(
                max_examples=max(1, count // len(operations)),
                phases=[Phase.generate],
                deadline=None,
                database=None,
                suppress_health_check=[
                    HealthCheck.too_slow,
                    HealthCheck.filter_too_much,
                    HealthCheck.large_base_example,
                ],
            )
            cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
            seeded(seed + number)(settled(given(cases)(_sender(client, url, documented, found))))()
    return found


def _sender(client: httpx.Client, url: str, documented: Documented, found: Findings) -> Callable[[Any], None]:
    def send(case: Any) -> None:
        _send_case(client, url, documented, found, case)

    return send


def _send_case(client: httpx.Client, url: str, documented: Documented, found: Findings, case: Any) -> None:
    """What a client of HTTP will not send at all is counted apart."""
    wanted = case.as_transport_kwargs(base_url=url)
    headers = {name: str(value) for name, value in wanted["headers"].items() if name.lower() != "authorization"}
    parts = {name: wanted[name] for name in ("params", "cookies", "json") if wanted.get(name) is not None}
    if wanted.get("data") is not None:
        parts["content"] = wanted["data"]
    try:
        answer = client.request(case.method, wanted["url"], headers=headers, **parts)
    except (httpx.TransportError, UnicodeEncodeError, ValueError, TypeError) as error:
        found.statuses[f"schemathesis not sent: {type(error).__name__}"] += 1
        return
    path = case.operation.path
    documented.judge(found, "schemathesis", parts, case.method.upper(), path, answer.status_code, answer.content)


def fuzz(side: Side, count: int, seed: int = 0) -> dict[str, Any]:
    """So many requests; whether all is well, and the first of what is not."""
    url, key, before = side.url, side.key, _servers(side.tree)
    documented = Documented(httpx.get(f"{url}/openapi.json", timeout=30).json())
    began = time.monotonic()
    broken = int(SCHEMA_SHARE * count)
    found = [
        asyncio.run(send_nonsense(url, key, side.model, count - broken, documented, seed)),
        send_schema_breakers(url, key, broken, documented, seed),
    ]
    statuses = sum((each.statuses for each in found), Counter())
    faults = [fault for each in found for fault in each.faults]
    healthy = httpx.get(f"{url}/health", timeout=60).status_code == 200
    lives = bool(before) and _servers(side.tree) == before
    return {
        "meets": not faults and healthy and lives,
        "requests": count,
        "statuses": dict(sorted(statuses.items())),
        "faults": faults,
        "healthy": healthy,
        "same_processes": lives,
        "seconds": time.monotonic() - began,
    }


def measure(folder: Path, count: int) -> dict[str, Any]:
    """The whole part on a server of its own."""
    with our_server(folder, build_model(folder)) as side:
        return fuzz(side, count)


def _servers(tree: ProcessTree) -> set[int]:
    return {process.pid for part in ("ServeReplica", "VLLM", "ProxyActor") for process in tree.named(part)}
