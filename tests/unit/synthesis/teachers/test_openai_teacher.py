"""The openai teacher against a real local endpoint: what is sent, what comes back, and everything that goes wrong."""

import base64
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from residency.platform.errors import RecipeError
from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.synthesis_config import TeacherConfig
from residency.synthesis.teachers import openai_teacher
from residency.synthesis.teachers.annotations import AnnotationsTeacher
from residency.synthesis.teachers.openai_teacher import OpenAITeacher
from residency.synthesis.teachers.structured import REASONING_SCHEMA
from residency.synthesis.teachers.teacher import Teacher, TeacherError, TeacherRefusedError, TeacherRequest

ITEM = Item(
    id="i", content_key="c", source="s", split=Split.TRAIN, licence="CC0", cluster="i", question="Is it round?",
    answer="yes", answer_kind=AnswerKind.YES_NO, family=Family.MEDICAL_MULTIMODAL, media=("a" * 64,),
)  # fmt: skip
PNG = b"\x89PNG not really"
KEY = "very-private-value-4711"


def request(**more: Any) -> TeacherRequest:
    return TeacherRequest(key="synth/i/0", item=ITEM, sample=0, prompt="Is it round?", prompt_hash="h", seed=7,
                          temperature=0.5, max_tokens=99, **more)  # fmt: skip


def teacher(url: str, **more: Any) -> OpenAITeacher:
    return OpenAITeacher(TeacherConfig(kind="openai", model="m", url=url, **more), lambda media: PNG)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between attempts."""
    monkeypatch.setattr(openai_teacher, "jitter_seconds", lambda attempt, rng: 0.0)


def test_what_is_sent_and_what_comes_back(with_endpoint: Any, complete: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ENDPOINT", KEY)
    seen: list[tuple[dict[str, str], dict[str, Any]]] = []

    async def answer(http: web.Request, body: dict[str, Any]) -> web.Response:
        seen.append((dict(http.headers), body))
        return complete("round, so yes")

    async def ask(url: str) -> None:
        asked = teacher(url, key_variable="MY_ENDPOINT", price_in=2.0, price_out=8.0, revision="June")
        reply = await asked.ask(request(media=ITEM.media))
        await asked.close()
        assert (reply.text, reply.finish_reason, reply.model, reply.revision) == (
            "round, so yes", "stop", "m-2026", "June")  # fmt: skip
        assert (reply.tokens_in, reply.tokens_out, reply.cost) == (1000, 500, pytest.approx(0.006))
        assert reply.seconds > 0

    with_endpoint(answer, ask)
    headers, body = seen[0]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["X-Client-Request-Id"] == "synth/i/0"
    image, text = body["messages"][0]["content"]
    assert image["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert text == {"type": "text", "text": "Is it round?"}
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("m", 0.5, 99, 7)


def test_failures_and_refusals_are_repeated_until_they_pass(with_endpoint: Any, complete: Any) -> None:
    statuses = [500, 429, 503, 502]

    async def answer(http: web.Request, body: dict[str, Any]) -> web.Response:
        return web.Response(status=statuses.pop(0)) if statuses else complete("yes")

    async def ask(url: str) -> None:
        asked = teacher(url)
        reply = await asked.ask(request())
        await asked.close()
        assert (reply.text, reply.attempts) == ("yes", 5)
        assert asked.limit.decreases == 1  # the 429; four failures in a hundred are none

    with_endpoint(answer, ask)


def test_a_request_that_fails_for_good_names_the_cause_without_the_key(
    with_endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_ENDPOINT", KEY)

    async def answer(http: web.Request, body: dict[str, Any]) -> web.Response:
        return web.Response(status=500, text=f"you sent {http.headers['Authorization']} and {KEY}")

    async def ask(url: str) -> None:
        asked = teacher(url, key_variable="MY_ENDPOINT")
        with pytest.raises(TeacherError, match="no reply in 6 attempts.*HTTP 500") as caught:
            await asked.ask(request())
        await asked.close()
        assert KEY not in "".join(traceback.format_exception(caught.value))

    with_endpoint(answer, ask)


def test_a_late_answer_is_a_failed_attempt(with_endpoint: Any, complete: Any) -> None:
    calls: list[int] = []

    async def answer(http: web.Request, body: dict[str, Any]) -> web.Response:
        calls.append(1)
        if len(calls) == 1:
            import asyncio

            await asyncio.sleep(5.0)
        return complete("yes")

    async def ask(url: str) -> None:
        asked = teacher(url, deadline_seconds=0.3)
        reply = await asked.ask(request())
        await asked.close()
        assert reply.attempts == 2

    with_endpoint(answer, ask)


def test_endless_refusals_end_at_the_deadline(with_endpoint: Any) -> None:
    async def answer(http: web.Request, body: dict[str, Any]) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "1"})

    async def ask(url: str) -> None:
        asked = teacher(url, deadline_seconds=0.4)
        with pytest.raises(TeacherError, match="HTTP 429"):
            await asked.ask(request())
        await asked.close()

    with_endpoint(answer, ask)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_key_or_address_that_is_refused_stops_everything_at_once(with_endpoint: Any, status: int) -> None:
    async def answer(http: web.Request, body: dict[str, Any]) -> web.Response:
        return web.Response(status=status, text="no such thing")

    async def ask(url: str) -> None:
        asked = teacher(url)
        with pytest.raises(TeacherRefusedError, match=f"HTTP {status}: no such thing"):
            await asked.ask(request())
        await asked.close()

    with_endpoint(answer, ask)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"<html>", "no chat completion"),
        (b'{"choices": [{"mess', "no chat completion"),
        (b'{"choices": "none"}', "no chat completion"),
        (b'{"choices": []}', "no choices"),
        (b'{"choices": [{"message": {"content": null}}]}', "empty"),
        (b'{"choices": [{"message": {"content": "  "}}]}', "empty"),
        (b"\xff\xfe", "no chat completion"),
    ],
)
def test_a_malformed_body_is_a_reply_with_a_fault(with_endpoint: Any, body: bytes, fault: str) -> None:
    async def answer(http: web.Request, _: dict[str, Any]) -> web.Response:
        return web.Response(body=body)

    async def ask(url: str) -> None:
        asked = teacher(url)
        assert fault in (await asked.ask(request())).fault
        await asked.close()

    with_endpoint(answer, ask)


def test_a_schema_that_the_endpoint_does_not_know_is_tried_once_and_remembered(
    with_endpoint: Any, complete: Any
) -> None:
    bodies: list[dict[str, Any]] = []

    async def answer(http: web.Request, body: dict[str, Any]) -> web.Response:
        bodies.append(body)
        return web.Response(status=400, text="unknown field") if "response_format" in body else complete("{}")

    async def ask(url: str) -> None:
        import asyncio

        asked = teacher(url)
        await asyncio.gather(*(asked.ask(request(schema=REASONING_SCHEMA)) for _ in range(8)))
        await asked.close()

    with_endpoint(answer, ask)
    assert sum("response_format" in body for body in bodies) == 1
    assert len(bodies) == 9


def test_a_schema_that_is_known_goes_with_every_request(with_endpoint: Any, complete: Any) -> None:
    bodies: list[dict[str, Any]] = []

    async def answer(http: web.Request, body: dict[str, Any]) -> web.Response:
        bodies.append(body)
        return complete("{}")

    async def ask(url: str) -> None:
        asked = teacher(url)
        for _ in range(3):
            await asked.ask(request(schema=REASONING_SCHEMA))
        await asked.close()

    with_endpoint(answer, ask)
    assert [body["response_format"]["json_schema"]["schema"] for body in bodies] == [REASONING_SCHEMA] * 3


def test_a_key_that_is_not_set_is_a_mistake_in_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_ENDPOINT", raising=False)
    with pytest.raises(RecipeError, match="MY_ENDPOINT is not set"):
        teacher("http://127.0.0.1:9/v1", key_variable="MY_ENDPOINT")


def test_all_teachers_share_one_protocol() -> None:
    makers: list[Callable[[], Teacher]] = [AnnotationsTeacher, lambda: teacher("http://127.0.0.1:9/v1")]
    assert all(maker().in_flight > 0 for maker in makers)
