"""What users said of answers, and, where they agreed to it, what was asked and answered. Kept for some days, then gone.

FOLDER/2026-11-28/  exchanges-<writer>.jsonl   requests and replies whose caller gave consent
                    ratings-<writer>.jsonl     what was said of a reply
                    media/ab/cd/….png          the pictures of the exchanges
"""

import base64
import binascii
import json
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from residency.platform.errors import DataError
from residency.platform.media_store import MediaStore, decode_image
from residency.platform.serving.refusals import Refusal, bad_request
from residency.platform.strict import Strict

SWEEP_SECONDS = 3600.0
RATINGS = ("right", "wrong", "unsure")


class Rating(Strict):
    """The body of ``POST /v1/feedback``."""

    request_id: str = Field(min_length=1, max_length=80)
    """The reply's `id`."""
    rating: str = Field(pattern=f"^({'|'.join(RATINGS)})$")
    """right, wrong or unsure."""
    corrected_answer: str | None = Field(None, min_length=1, max_length=4000)
    """What the answer should have been; kept only with consent."""
    comment: str | None = Field(None, max_length=4000)
    """Anything else; kept only with consent."""
    consent: bool = False
    """Whether the texts may be kept and become training data."""


def read_rating(document: Any) -> Rating:
    """Raises Refusal (400) for anything but a rating; texts without consent are refused, not silently dropped."""
    try:
        rating = Rating.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise bad_request(first["msg"], ".".join(map(str, first["loc"])) or None) from error
    if not rating.consent and (rating.corrected_answer is not None or rating.comment is not None):
        raise bad_request("`corrected_answer` and `comment` are kept only with `consent: true`.", "consent")
    return rating


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One request and its reply. ``messages`` name their images by hash (``sha256:…``)."""

    request_id: str
    time: str
    key: str
    model: str
    version: str
    mode: str
    messages: list[dict[str, Any]]
    reasoning: str
    answer: str


class FeedbackStore:
    """The folder of one server; each replica writes files of its own."""

    def __init__(self, folder: Path, retention_days: int, writer: str) -> None:
        self._folder, self._days, self._writer = folder, retention_days, writer
        self._swept = 0.0

    def keep_exchange(self, exchange: Exchange) -> None:
        """Its images go into the day's media folder, once each."""
        day = self._day()
        media = MediaStore(day / "media")
        messages = [_with_hashes(message, media) for message in exchange.messages]
        self._append(day, "exchanges", asdict(exchange) | {"messages": messages})

    def keep_rating(self, key: str, rating: Rating) -> None:
        self._append(self._day(), "ratings", {"time": _now(), "key": key} | rating.model_dump(exclude_none=True))

    def _day(self) -> Path:
        self.sweep()
        return self._folder / datetime.now(UTC).date().isoformat()

    def _append(self, day: Path, what: str, row: dict[str, Any]) -> None:
        day.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (day / f"{what}-{self._writer}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def sweep(self) -> None:
        """Remove the days that are past their time; once an hour, and at the first call."""
        if self._swept and time.monotonic() - self._swept < SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        last = datetime.now(UTC).date() - timedelta(days=self._days)
        for path in self._folder.glob("????-??-??"):
            try:
                expired = date.fromisoformat(path.name) < last
            except ValueError:
                continue  # not a folder of ours
            if expired:
                shutil.rmtree(path, ignore_errors=True)  # another replica may be at it


def refuse_feedback() -> Refusal:
    """403: this server keeps none."""
    return Refusal(403, "feedback_is_off", "This server takes no feedback, and keeps nothing of what is said.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _with_hashes(message: dict[str, Any], media: MediaStore) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = []
    for part in content:
        if part["type"] == "image_url":
            parts.append({"type": "image_url", "image_url": {"url": _stored(part["image_url"]["url"], media)}})
        else:
            parts.append(part)
    return message | {"content": parts}


def _stored(url: str, media: MediaStore) -> str:
    """Without the file's metadata, which may name a patient."""
    try:
        data = base64.b64decode(url.partition(",")[2], validate=True)
        return f"sha256:{media.put(decode_image(data, 'an image'))}"
    except (DataError, binascii.Error):
        return "sha256:unreadable"
