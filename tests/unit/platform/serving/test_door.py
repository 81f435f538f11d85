"""The door's steps: route, key, limits, size, and the audit line."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from residency.platform.serving.key_ring import add_key, revoke_key
from residency.platform.serving.serving_state import parse_state

CHAT = {"model": "resident", "messages": [{"role": "user", "content": "which side?"}]}
ASK = ("POST", "/v1/chat/completions", CHAT)


def audited(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in (tmp_path / "audit").iterdir() for line in file.read_text().splitlines()]


@pytest.mark.parametrize("given", [b"Bearer res-secret", b"bearer res-secret", b"Bearer  res-secret "])
def test_the_right_key_opens(new_door: Any, given: bytes) -> None:
    assert new_door().send("GET", "/v1/models", headers=[(b"authorization", given)])[0]["status"] == 200


@pytest.mark.parametrize("given", [b"Bearer other", b"res-secret", b"Basic res-secret", b"Bearer", b"\xff\xfe", b""])
def test_anything_else_is_refused_in_openai_form(new_door: Any, given: bytes) -> None:
    start, body = new_door().send("POST", "/v1/chat/completions", headers=[(b"authorization", given)])
    assert start["status"] == 401
    assert dict(start["headers"])[b"www-authenticate"] == b"Bearer"
    error = json.loads(body["body"])["error"]
    assert error["code"] == "invalid_api_key"
    assert set(error) == {"message", "type", "param", "code"}


def test_two_keys_are_none(new_door: Any) -> None:
    twice = [(b"authorization", b"Bearer res-secret")] * 2
    assert new_door().send("GET", "/v1/models", headers=twice)[0]["status"] == 401


def test_only_what_is_meant_to_be_open_is_open(new_door: Any) -> None:
    call = new_door()
    for path in ("/health", "/ready", "/openapi.json"):
        assert call("GET", path, key=None).status == 200
    assert call("GET", "/v1/load_lora_adapter").status == 404
    assert (
        call("GET", "/v1/load_lora_adapter", key=None).status == 401
    )  # what exists is nobody's business without a key
    assert call("DELETE", "/v1/models").code == "method_not_allowed"
    assert call("OPTIONS", "/v1/chat/completions", origin="https://elsewhere.example").status == 405
    key = [(b"authorization", b"Bearer res-secret")]
    assert call.send("GET", "/prefix/v1/models", headers=key, root="/prefix")[0]["status"] == 200
    assert call.send("GET", "/v1/realtime", kind="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_no_header_lets_another_site_read_a_reply(new_door: Any) -> None:
    answer = new_door()(*ASK, origin="https://elsewhere.example")
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cache-control"] == "no-store"


def test_health_and_readiness_say_what_stands_behind(new_door: Any) -> None:
    call = new_door()
    call.behind.ready = False
    assert (call("GET", "/health").status, call("GET", "/ready").status) == (200, 503)
    call.behind.healthy = False
    assert call("GET", "/health").headers["retry-after"] == "10"


def test_a_full_replica_refuses_before_it_reads(new_door: Any) -> None:
    call = new_door()
    call.behind.full = True
    refused = call("POST", "/v1/chat/completions", b"{" * 100)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "busy", "1")


def test_a_body_of_another_kind_or_size_is_refused(new_door: Any) -> None:
    call = new_door(body_mib=1)
    assert call("POST", "/v1/chat/completions", CHAT, content_type="text/plain").status == 415
    assert call("POST", "/v1/chat/completions", b"{nonsense").code == "invalid_json"
    assert call("POST", "/v1/chat/completions", b"[" * 100_000).code == "invalid_json"
    assert call("POST", "/v1/chat/completions", b'{"temperature": NaN}').code == "invalid_json"
    assert call("POST", "/v1/chat/completions", b"\xff").code == "invalid_json"
    assert call("POST", "/v1/chat/completions", b" " * (2**20 + 1)).status == 413
    assert call("POST", "/v1/chat/completions", b"{}", content_length=str(2**21)).status == 413


def test_a_key_file_is_followed_and_its_limits_hold(new_door: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    few = add_key(file, "few", requests_per_minute=2)
    thirsty = add_key(file, "thirsty", tokens_per_minute=30)
    assert few not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    call = new_door(keys_file=str(file))
    assert [call(*ASK, key=few).status for _ in range(3)] == [200, 200, 429]
    refused = call(*ASK, key=few)
    assert refused.code == "requests_limit"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert call("GET", "/v1/models", key=few).status == 200  # looking costs nothing
    assert call(*ASK, key=thirsty).status == 200  # 40 tokens: overdrawn by one request
    assert call(*ASK, key=thirsty).code == "tokens_limit"
    revoke_key(file, "thirsty")
    assert new_door(keys_file=str(file))(*ASK, key=thirsty).status == 401


def test_the_audit_log_says_who_and_how_much_and_nothing_of_what(new_door: Any, tmp_path: Path) -> None:
    call = new_door()
    call(*ASK)
    call(*ASK, key="wrong")
    call("GET", "/health", key=None)
    call("POST", "/v1/chat/completions", {**CHAT, "model": "other"})
    call("GET", "/v1/Miller,John,1954-01-01")
    answered, refused, absent, elsewhere = audited(tmp_path)
    assert (answered["key"], answered["status"], answered["version"]) == ("default", 200, "v1")
    assert (answered["prompt_tokens"], answered["completion_tokens"]) == (30, 10)
    assert answered["seconds"] >= 0
    assert (refused["key"], refused["status"], refused["code"]) == ("", 401, "invalid_api_key")
    assert (absent["status"], absent["code"]) == (404, "model_not_found")
    text = json.dumps([answered, refused, absent, elsewhere])
    assert not any(secret in text for secret in ("which side", "left", "res-secret", "wrong", "Miller"))


def test_what_a_reply_says_of_itself(new_door: Any) -> None:
    call = new_door()
    answer = call(*ASK)
    assert answer.headers["x-residency-version"] == "v1"
    assert "Not medical advice" in answer.headers["x-residency-notice"]
    assert answer.json()["residency"]["checkpoint"] == "sft of runs/a"
    call.behind.pieces = (b"data: {}\n\n", b"data: [DONE]\n\n")
    streamed = call("POST", "/v1/chat/completions", {**CHAT, "stream": True})
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.headers["x-residency-version"] == "v1"
    assert streamed.body == b"data: {}\n\ndata: [DONE]\n\n"


def test_sessions_stay_with_a_version_and_a_version_can_be_named(new_door: Any) -> None:
    call = new_door()
    state = call.behind.states["resident"].model_dump() | {"canary": {"version": "v2", "share": 0.5}}
    call.behind.states = {"resident": parse_state(state)}

    def chosen(body: dict[str, Any], **headers: str) -> str:
        assert call("POST", "/v1/chat/completions", {**CHAT, **body}, **headers).status == 200
        return call.behind.asked[-1][2]

    by_session = {str(n): chosen({}, x_session_id=str(n)) for n in range(40)}
    assert set(by_session.values()) == {"v1", "v2"}
    assert by_session == {n: chosen({}, x_session_id=n) for n in by_session}
    assert by_session == {n: chosen({"user": n}) for n in by_session}
    assert chosen({"model": "resident@v2"}, x_session_id="1") == "v2"
    assert call.behind.asked[-1][3]
    assert call("POST", "/v1/chat/completions", {**CHAT, "model": "resident@v3"}).status == 404
    listed = [card["id"] for card in call("GET", "/v1/models").json()["data"]]
    assert listed == ["resident", "resident@v1", "resident@v2"]


def test_every_status_of_the_door_is_in_the_document(new_door: Any) -> None:
    paths = new_door()("GET", "/openapi.json", key=None).json()["paths"]
    assert {"/v1/chat/completions", "/v1/models", "/v1/media", "/v1/feedback", "/health", "/ready"} <= set(paths)
    chat = paths["/v1/chat/completions"]["post"]["responses"]
    assert {"200", "400", "401", "403", "404", "405", "413", "415", "422", "429", "500", "503"} <= set(chat)


def test_what_goes_wrong_with_us_is_a_status_too(new_door: Any, tmp_path: Path) -> None:
    call = new_door()
    call.behind.states = None  # a mistake of ours
    failed = call(*ASK)
    assert (failed.status, failed.code) == (500, "internal_error")
    assert audited(tmp_path)[-1]["status"] == 500


def test_a_reply_is_closed_also_when_its_client_has_left(new_door: Any) -> None:
    call = new_door()
    call.behind.pieces = (b"data: {}\n\n",) * 3
    for after in range(4):  # it leaves before the response begins, and at each later piece
        sent: list[Any] = []

        async def leave(message: Any, sent: list[Any] = sent, after: int = after) -> None:
            if len(sent) == after:
                raise asyncio.CancelledError
            sent.append(message)

        with pytest.raises(asyncio.CancelledError):
            call.visit({**CHAT, "stream": True}, leave)
    assert call.behind.released == 4
