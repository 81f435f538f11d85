"""A door with a stand-in behind it, called as a web server calls it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from residency.platform.serving.answer_modes import Asked
from residency.platform.serving.door import Door
from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.key_ring import key_digest
from residency.platform.serving.refusals import Refusal
from residency.platform.serving.replica_door import replica_door
from residency.platform.serving.replies import Reply, Usage
from residency.platform.serving.serving_state import ServingState, parse_state
from residency.platform.serving.visit import Message

KEY = "res-secret"
STATE = {
    "model": "resident",
    "versions": {
        "v1": {"path": "/models/v1", "checkpoint": "sft of runs/a"},
        "v2": {"path": "/models/v2", "checkpoint": "rl of runs/a"},
    },
    "stable": "v1",
    "canary": None,
}
CHAT = {"model": "resident", "messages": [{"role": "user", "content": "which side?"}]}


@dataclass
class Recorder:
    """Answers with what it was asked; ``pieces`` make it stream."""

    states: dict[str, ServingState] = field(default_factory=lambda: {"resident": parse_state(STATE)})
    healthy: bool = True
    ready: bool = True
    full: bool = False
    pieces: tuple[bytes, ...] = ()
    released: int = 0
    asked: list[tuple[Asked, str, str, bool]] = field(default_factory=list)

    def release(self) -> None:
        self.released += 1

    def refuse_if_full(self) -> None:
        if self.full:
            raise Refusal(503, "busy", "Too many.", retry_after_seconds=0.2)

    async def answer(self, asked: Asked, model: str, version: str, named: bool, request_id: str) -> Reply:
        self.asked.append((asked, model, version, named))
        label = self.states[model].label(version)
        usage = Usage(prompt_tokens=30, completion_tokens=10)
        if self.pieces:

            async def stream() -> AsyncGenerator[bytes, None]:
                for piece in self.pieces:
                    yield piece

            return Reply(status=200, label=label, stream=stream(), usage=usage, release=self.release)
        message = {"role": "assistant", "content": "left", "reasoning": "it is there"}
        body = {"id": "chatcmpl-1", "choices": [{"message": message}], "residency": label}
        return Reply(status=200, label=label, body=json.dumps(body).encode(), usage=usage)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json()["error"]["code"]


class Caller:
    """Calls a door in the same process."""

    def __init__(self, door: Door, behind: Recorder) -> None:
        self.door, self.behind = door, behind

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
        kind: str = "http",
        root: str = "",
    ) -> list[Message]:
        sent: list[Message] = []
        pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)] or [b""]

        async def receive() -> Message:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def keep(message: Message) -> None:
            sent.append(message)

        scope = {"type": kind, "method": method, "path": path, "root_path": root, "headers": headers or []}
        asyncio.run(self.door(scope, receive, keep))
        return sent

    def visit(self, body: Any, send: Any) -> None:
        """A chat whose response goes to ``send``."""
        headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")]

        async def receive() -> Message:
            return {"type": "http.request", "body": json.dumps(body).encode()}

        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        asyncio.run(self.door(scope, receive, send))

    def __call__(self, method: str, path: str, body: Any = None, *, key: str | None = KEY, **headers: str) -> Answer:
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if key is not None:
            given.append((b"authorization", f"Bearer {key}".encode()))
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if "content_type" not in headers:
            given.append((b"content-type", b"application/json"))
        start, *rest = self.send(method, path, data, given)
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], found, b"".join(message["body"] for message in rest))


@pytest.fixture
def new_door(tmp_path: Path) -> Any:
    """Makes a caller of a door with these settings and this stand-in behind it."""

    def make(behind: Recorder | None = None, **settings: Any) -> Caller:
        recorder = behind or Recorder()
        keys = {} if "keys_file" in settings else {"key_digest": key_digest(KEY)}
        config = DoorConfig.model_validate({"audit_folder": str(tmp_path / "audit"), **keys, **settings})
        return Caller(replica_door(config, recorder, "test"), recorder)

    return make
