"""The audit log: who asked which version when, at what cost and with what outcome. Never what was said."""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRecord:
    """One request, answered or refused. ``key`` is the caller's id, empty where no key was given or it was wrong."""

    time: str
    request_id: str
    key: str
    route: str
    model: str = ""
    chosen: str = ""  # the version that the session was sent to
    version: str = ""  # the one that answered
    mode: str = ""
    status: int
    code: str = ""  # of the refusal
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    malformed: bool | None = None  # read of an answer while a canary is watched
    abstained: bool | None = None


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class AuditLog:
    """JSON lines, one file a day and writer. A line is one write to a file opened for appending: whole, or not there.

    Without a folder nothing is kept.
    """

    def __init__(self, folder: Path | None, writer: str) -> None:
        self._folder, self._writer = folder, writer
        self._day, self._file = "", -1

    def write(self, record: AuditRecord) -> None:
        if self._folder is None:
            return
        day = record.time[:10]
        if day != self._day:
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._folder / f"{day}-{self._writer}.jsonl", OPEN_FLAGS, 0o600)
            self._day = day
        os.write(self._file, json.dumps(asdict(record)).encode() + b"\n")

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._day, self._file = "", -1
