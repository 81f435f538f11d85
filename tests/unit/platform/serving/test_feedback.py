"""Feedback: off by default, kept only by consent, gone after its days."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

CHAT = {"model": "resident", "messages": [{"role": "user", "content": "which side?"}]}
RATED = {"request_id": "chatcmpl-1", "rating": "wrong", "corrected_answer": "right", "consent": True}


def rows(folder: Path, what: str) -> list[dict[str, Any]]:
    return [json.loads(line) for file in folder.glob(f"*/{what}-*.jsonl") for line in file.read_text().splitlines()]


def test_it_is_off_by_default(new_door: Any) -> None:
    call = new_door()
    assert call("POST", "/v1/feedback", RATED).code == "feedback_is_off"
    assert call("POST", "/v1/chat/completions", {**CHAT, "residency": {"consent": True}}).code == "feedback_is_off"
    assert call("POST", "/v1/media", b"x", content_type="image/png").code == "uploads_are_off"
    assert call.behind.asked == []


def test_what_was_said_is_kept_only_by_consent(new_door: Any, tmp_path: Path) -> None:
    call = new_door(feedback_folder=str(tmp_path / "feedback"))
    assert call("POST", "/v1/chat/completions", CHAT).status == 200
    assert rows(tmp_path / "feedback", "exchanges") == []
    assert call("POST", "/v1/chat/completions", {**CHAT, "residency": {"consent": True}}).status == 200
    chunk = {"id": "chatcmpl-2", "choices": [{"delta": {"reasoning": "r", "content": "right"}}]}
    call.behind.pieces = (f"data: {json.dumps(chunk)}\n\n".encode(), b"data: [DONE]\n\n")
    streamed = call("POST", "/v1/chat/completions", {**CHAT, "stream": True, "residency": {"consent": True}})
    assert streamed.body == b"".join(call.behind.pieces)
    whole, stream = rows(tmp_path / "feedback", "exchanges")
    assert (whole["request_id"], whole["answer"], whole["key"]) == ("chatcmpl-1", "left", "default")
    assert (stream["request_id"], stream["reasoning"], stream["answer"]) == ("chatcmpl-2", "r", "right")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**RATED, "consent": False},
        {**RATED, "rating": "fine"},
        {**RATED, "more": 1},
        {**RATED, "request_id": ""},
        {**RATED, "comment": "x" * 5000},
        [],
    ],
)
def test_a_rating_that_is_none_is_refused(new_door: Any, tmp_path: Path, body: Any) -> None:
    assert new_door(feedback_folder=str(tmp_path / "feedback"))("POST", "/v1/feedback", body).status == 400
    assert rows(tmp_path / "feedback", "ratings") == []


def test_days_that_are_past_their_time_go(new_door: Any, tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    for days in (0, 30, 31, 400):
        (tmp_path / "feedback" / (today - timedelta(days=days)).isoformat()).mkdir(parents=True)
    (tmp_path / "feedback" / "notes-of-mine").mkdir()
    call = new_door(feedback_folder=str(tmp_path / "feedback"), retention_days=30)
    assert call("POST", "/v1/feedback", RATED).status == 200
    left = {path.name for path in (tmp_path / "feedback").iterdir()}
    assert left == {today.isoformat(), (today - timedelta(days=30)).isoformat(), "notes-of-mine"}
    (rating,) = rows(tmp_path / "feedback", "ratings")
    assert (rating["key"], rating["corrected_answer"]) == ("default", "right")
