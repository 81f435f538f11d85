"""What crosses the border to the judge's process, and the verdicts' way back as JSON (never a pickle)."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import msgspec

from residency.platform.recipe import RewardConfig
from residency.platform.records import Item, PromptMode, Status, Verdict

MAX_EVIDENCE_CHARACTERS = 500
MAX_NAME_CHARACTERS = 100
MAX_PARTS = 64
BATCH_INTERFACES = ("trl", "trl_chat")  # whose functions take many samples in one call
STATUSES = {status.value: status for status in Status}


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
    take_seconds: float = 10.0  # to read a batch for which nothing new must be loaded


class Fault(NamedTuple):
    """A sample that got no verdict: error or timeout, and why."""

    status: Status
    reason: str


Reply = Verdict | Fault
Fields = tuple[str, float | None, dict[str, float], str, str, str]  # a fault has its status and its evidence only
decoder = msgspec.json.Decoder(list[Fields])
encoder = msgspec.json.Encoder()


def pack_requests(requests: Sequence[JudgeRequest], reward: RewardConfig) -> bytes:
    """A batch as one pickle to our own child, with each item in it once."""
    numbers: dict[int, int] = {}
    items: list[Item] = []
    rows: list[tuple[int, str, str, str]] = []
    for request in requests:
        number = numbers.setdefault(id(request.item), len(items))
        if number == len(items):
            items.append(request.item)
        rows.append((number, request.trace_id, request.text, request.mode.value))
    return pickle.dumps((items, rows, reward))


def unpack_requests(frame: bytes) -> tuple[list[JudgeRequest], RewardConfig]:
    """The batch; only for a frame of our own parent."""
    items, rows, reward = cast(tuple[list[Item], list[tuple[int, str, str, str]], RewardConfig], pickle.loads(frame))
    modes = {mode.value: mode for mode in PromptMode}
    return [
        JudgeRequest(item=items[number], trace_id=trace_id, text=text, mode=modes[mode])
        for number, trace_id, text, mode in rows
    ], reward


def encodable(text: str, length: int) -> str:
    """Cut to ``length``, and without half characters (lone surrogates), which no UTF-8 holds."""
    cut = text[:length]
    return cut if cut.isascii() else cut.encode("utf-8", "backslashreplace").decode()


def fields_of(reply: Reply) -> Fields:
    """What of a reply crosses the border: long words are cut, more parts than a verdict can have are a fault."""
    if isinstance(reply, Fault):
        return (reply.status.value, None, {}, encodable(reply.reason, MAX_EVIDENCE_CHARACTERS), "", "")
    parts = reply.parts
    if len(parts) > MAX_PARTS or max(map(len, parts), default=0) > MAX_NAME_CHARACTERS:
        reason = f"{len(parts)} parts, the longest name of {max(map(len, parts))} characters"
        return fields_of(Fault(Status.ERROR, f"{reason}: at most {MAX_PARTS} of {MAX_NAME_CHARACTERS}"))
    evidence = encodable(reply.evidence, MAX_EVIDENCE_CHARACTERS)
    verifier = encodable(reply.verifier, MAX_NAME_CHARACTERS)
    version = encodable(reply.verifier_version, MAX_NAME_CHARACTERS)
    return (reply.status.value, reply.score, dict(parts), evidence, verifier, version)


def pack_replies(replies: Sequence[Reply]) -> bytes:
    return encoder.encode([fields_of(reply) for reply in replies])


def unpack_replies(frame: bytes, trace_ids: Sequence[str]) -> list[Reply]:
    """Verdicts and faults of the next traces; raises ValueError for a frame that is none of ours."""
    try:
        rows = decoder.decode(frame)
    except msgspec.DecodeError as error:
        raise ValueError(f"replies that cannot be read: {error}") from error
    if not 0 < len(rows) <= len(trace_ids):
        raise ValueError(f"{len(rows)} replies for {len(trace_ids)} traces")
    replies: list[Reply] = []
    for trace_id, (name, score, parts, evidence, verifier, version) in zip(trace_ids, rows, strict=False):
        status = STATUSES.get(name)
        if status is Status.ERROR or status is Status.TIMEOUT:
            replies.append(Fault(status, evidence))
        elif status is None or score is None:
            raise ValueError(f"a reply with status {name!r} and score {score}")
        else:
            replies.append(
                Verdict(
                    trace_id=trace_id,
                    status=status,
                    score=score,
                    parts=parts,
                    evidence=evidence,
                    verifier=verifier,
                    verifier_version=version,
                )
            )
    return replies
