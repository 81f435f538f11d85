"""What crosses the border to the judge's process, and the verdict's way back as JSON (never a pickle)."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from residency.platform.recipe import RewardConfig
from residency.platform.records import Item, PromptMode, Status, Verdict

JudgeFunction = Callable[[Item, str, str, PromptMode, RewardConfig], Verdict]
MAX_EVIDENCE_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeRequest:
    """One completion and the item that it answers."""

    item: Item
    trace_id: str
    text: str
    mode: PromptMode


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeLimits:
    """What one sample may take: wall-clock seconds, and bytes above what the idle judge holds."""

    sample_seconds: float = 5.0
    memory_bytes: int = 1 << 30
    start_seconds: float = 120.0  # interpreter and libraries, on a busy machine


def pack_verdict(verdict: Verdict) -> bytes:
    evidence = verdict.evidence[:MAX_EVIDENCE_CHARACTERS]
    fields = [verdict.status, verdict.score, dict(verdict.parts), evidence, verdict.verifier, verdict.verifier_version]
    return json.dumps(fields).encode()


def pack_fault(reason: str) -> bytes:
    return json.dumps({"fault": reason[:MAX_EVIDENCE_CHARACTERS]}).encode()


def unpack_reply(frame: bytes, trace_id: str) -> Verdict | str:
    """The verdict, or the reason of the fault."""
    reply = json.loads(frame)
    if isinstance(reply, dict):
        return str(reply["fault"])
    status, score, parts, evidence, verifier, version = reply
    return Verdict(
        trace_id=trace_id,
        status=Status(status),
        score=score,
        parts=parts,
        evidence=evidence,
        verifier=verifier,
        verifier_version=version,
    )
