"""From the doors' audit log to observations."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from residency.platform.registry.audit_tail import ROUTE, AuditTail, observation_of
from residency.platform.serving.audit import AuditLog, AuditRecord


def record(**changes: Any) -> AuditRecord:
    usual: dict[str, Any] = {
        "time": "2026-01-02T03:04:05.678+00:00", "request_id": "r", "key": "k", "route": ROUTE, "model": "blood",
        "chosen": "v2", "version": "v2", "mode": "think", "status": 200, "seconds": 0.25, "malformed": False,
        "abstained": False,
    }  # fmt: skip
    return AuditRecord(**usual | changes)


def test_lines_come_once_and_whole(tmp_path: Path) -> None:
    log, tail = AuditLog(tmp_path, "one"), AuditTail(tmp_path)
    log.write(record(request_id="a"))
    assert [line["request_id"] for line in tail.lines()] == ["a"]
    AuditLog(tmp_path, "two").write(record(request_id="b"))
    log.write(record(request_id="c"))
    (path,) = tmp_path.glob("*-one.jsonl")
    half = json.dumps(asdict(record(request_id="d")))
    with path.open("a") as file:
        file.write(half[:20])
    assert sorted(line["request_id"] for line in tail.lines()) == ["b", "c"]
    with path.open("a") as file:
        file.write(half[20:] + "\n")
    assert [line["request_id"] for line in tail.lines()] == ["d"]
    assert list(tail.lines()) == []
    assert list(AuditTail(tmp_path / "absent").lines()) == []


def test_an_answer() -> None:
    seen = observation_of(asdict(record(malformed=True)))
    assert seen is not None
    assert (seen.version, seen.seconds, seen.failed, seen.malformed, seen.abstained) == ("v2", 0.25, False, True, False)
    assert seen.t == pytest.approx(1767323045.678)


def test_our_failures_count_against_the_version_that_was_to_answer() -> None:
    for changes in ({"status": 500, "version": ""}, {"status": 503, "version": "", "code": "not_ready"}):
        seen = observation_of(asdict(record(**changes)))
        assert seen is not None
        assert (seen.version, seen.failed) == ("v2", True)
    stepped_in = observation_of(asdict(record(version="v1")))
    assert stepped_in is not None
    assert (stepped_in.version, stepped_in.failed, stepped_in.malformed) == ("v2", True, None)


def test_a_structured_answer_that_broke_off_is_malformed() -> None:
    seen = observation_of(asdict(record(status=422, version="", malformed=None)))
    assert seen is not None
    assert (seen.failed, seen.malformed) == (False, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 400, "version": ""}, {"status": 429, "version": ""}, {"status": 499},
        {"status": 503, "code": "busy", "version": "", "chosen": ""},
        {"route": "GET /v1/models", "chosen": "", "version": ""},
    ],
)  # fmt: skip
def test_what_tells_nothing_of_a_version(changes: dict[str, Any]) -> None:
    assert observation_of(asdict(record(**changes))) is None
