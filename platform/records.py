"""The frozen records that every role exchanges. Their Arrow schemas stand in ``arrow_tables``."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class AnswerKind(StrEnum):
    CHOICE = "choice"
    YES_NO = "yes_no"
    SHORT = "short"
    NUMBER = "number"
    BOX = "box"
    OPEN = "open"
    REPORT = "report"


class Family(StrEnum):
    MEDICAL_MULTIMODAL = "medical_multimodal"
    GENERAL_MULTIMODAL = "general_multimodal"
    TEXTUAL_REASONING = "textual_reasoning"


class Split(StrEnum):
    TRAIN = "train"
    TUNE = "tune"
    HELD_OUT = "held_out"


class Target(StrEnum):
    DIRECT = "direct"
    COT = "cot"
    REFLECTIVE = "reflective"


class Status(StrEnum):
    SCORED = "scored"
    ABSTAINED = "abstained"
    ERROR = "error"
    TIMEOUT = "timeout"


class PromptMode(StrEnum):
    DIRECT = "direct"
    THINK = "think"


REFUSED = "refused"  # finish reason of a request that the engine did not take: our fault, never the policy's


def short_hash(*parts: str) -> str:
    """First 16 hex digits of SHA-256 over the parts, separated so that no two lists of parts collide by joining."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, order=True, slots=True)
class PolicyVersion:
    """Which weights sampled a token: (incarnation of the learner group, optimizer step).

    Packed as ``incarnation << 32 | step`` where a column of integers is wanted:
    ``PolicyVersion(incarnation=1, step=5).packed == 4294967301``.
    """

    incarnation: int
    step: int

    @property
    def packed(self) -> int:
        return self.incarnation << 32 | self.step

    @classmethod
    def unpack(cls, packed: int) -> "PolicyVersion":
        return cls(incarnation=packed >> 32, step=packed & 0xFFFFFFFF)

    def __str__(self) -> str:
        return f"{self.incarnation}.{self.step}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question with its answer and media.

    ``id`` is the hash of source, split and the source's row key; ``content_key`` the hash of question, options and
    media, without the answer. ``cluster`` is the patient, study or source image that splits and intervals respect.
    ``answer`` is the option's *text* for choice, ``yes``/``no`` for yes_no, a number (with unit) for number, JSON
    ``[[x0, y0, x1, y1], …]`` in relative coordinates 0–1 for box. ``metadata`` holds the annotations (JSON values).
    """

    id: str
    content_key: str
    source: str
    split: Split
    licence: str
    cluster: str
    patient_id: str | None = None
    media: tuple[str, ...] = ()  # SHA-256 of each image, in order
    question: str
    options: tuple[str, ...] = ()
    answer: str
    answer_kind: AnswerKind
    family: Family
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def make_id(source: str, split: str, row_key: str) -> str:
        return short_hash(source, split, row_key)

    @staticmethod
    def make_content_key(question: str, options: Sequence[str], media: Sequence[str]) -> str:
        return short_hash(question, *options, *media)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One completion that was really sampled (or written by the annotations teacher: then without token ids).

    ``prompt_token_ids`` are the engine's own, with media placeholders expanded. ``logprobs[t]`` is the sampler's
    logprob of ``token_ids[t]`` after bans, temperature, top-k and top-p; ``policy_versions[t]`` the packed version
    of the weights that sampled it. ``seconds`` is the request's time in the engine.
    """

    id: str
    item_id: str
    role: str  # teacher | policy
    model: str
    prompt_mode: PromptMode
    prompt_hash: str
    seed: int
    sample_index: int
    prompt_token_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    policy_versions: tuple[int, ...] = ()
    text: str
    finish_reason: str  # stop | length | abort | refused (the engine did not take the request; text says why)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a verifier says of one trace. ``score`` and ``parts`` are 0–1; ``score`` is None for error and timeout."""

    trace_id: str
    status: Status
    score: float | None
    parts: Mapping[str, float] = field(default_factory=dict)  # format, accuracy, …
    evidence: str = ""
    verifier: str
    verifier_version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One SFT example: a chat whose last message is the assistant's.

    ``messages`` are ``{"role", "content"}`` with plain-text content; the item's images belong to the first user
    message. ``loss_start`` is the offset in characters of the assistant's content from which the loss is taken
    (a reflective example teaches only what follows the wrong part).
    """

    id: str
    item_id: str
    messages: tuple[Mapping[str, str], ...]
    media: tuple[str, ...] = ()
    target: Target
    family: Family
    pattern: str | None = None  # reflective strategy
    error_kind: str | None = None  # what was wrong in the first part
    from_traces: tuple[str, ...] = ()
    loss_start: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The G traces and verdicts of one prompt, with the span of versions that sampled its tokens."""

    item_id: str
    trace_ids: tuple[str, ...]
    scores: tuple[float | None, ...]
    oldest_version: PolicyVersion
    newest_version: PolicyVersion
