"""The audit log of a server's doors, read as it grows, as observations for the watch."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from residency.platform.registry.watching import Observation

ROUTE = "POST /v1/chat/completions"
INCOMPLETE = 422  # a structured answer that broke off
OF_LOAD = ("busy",)  # refused before any version was asked


class AuditTail:
    """Every whole line of every file in the folder, once; files may come and go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_bytes: dict[Path, int] = {}

    def lines(self) -> Iterator[dict[str, Any]]:
        """What was written since the last call."""
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read_bytes.get(path, 0))
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read_bytes[path] = self._read_bytes.get(path, 0) + len(whole)
            for line in whole.splitlines():
                yield json.loads(line)


def observation_of(line: dict[str, Any]) -> Observation | None:
    """The observation in a line of the audit log; None where it tells nothing of a version.

    A caller's mistake (4xx) tells nothing, but for a structured answer that broke off. The version is the one that the
    session was sent to: where another one had to answer in its place, it failed.
    """
    chosen = line.get("chosen") or line["version"]
    status = line["status"]
    if line["route"] != ROUTE or not chosen or line.get("code") in OF_LOAD:
        return None
    about: dict[str, Any] = {
        "version": chosen, "t": datetime.fromisoformat(line["time"]).timestamp(), "seconds": line["seconds"]
    }  # fmt: skip
    if status == INCOMPLETE:
        return Observation(**about, malformed=True)
    if 400 <= status < 500:
        return None
    if status >= 500 or chosen != line["version"]:
        return Observation(**about, failed=True)
    return Observation(**about, malformed=line.get("malformed"), abstained=line.get("abstained"))
