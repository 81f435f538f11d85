"""What a gate says of an item: a pure function's answer, with the reason that is counted and the evidence that is
shown."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from residency.platform.records import Item


class Outcome(StrEnum):
    PASSED = "passed"
    MARKED = "marked"  # kept, and the mark goes with it
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class GateDecision:
    """One gate on one item. ``reason`` names no single item, since it is counted; ``evidence`` may."""

    gate: str
    outcome: Outcome
    reason: str = ""
    evidence: str = ""


Gate = Callable[[Item], GateDecision]


def passed(gate: str, evidence: str = "") -> GateDecision:
    return GateDecision(gate=gate, outcome=Outcome.PASSED, evidence=evidence)


def marked(gate: str, reason: str, evidence: str = "") -> GateDecision:
    return GateDecision(gate=gate, outcome=Outcome.MARKED, reason=reason, evidence=evidence)


def refused(gate: str, reason: str, evidence: str = "") -> GateDecision:
    return GateDecision(gate=gate, outcome=Outcome.REFUSED, reason=reason, evidence=evidence)
