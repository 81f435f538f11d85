"""The 0/1/2 rubric of InfiMed2 as a gate over a teacher's rating; the call itself is the teacher's business.

Three points, each 0 bad, 1 limited, 2 good; any 0 refuses. The prompt is ``synthesis/prompts/quality-rubric-1.md``.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from residency.platform.errors import DataError
from residency.platform.records import Item
from residency.synthesis.gates.decision import Gate, GateDecision, marked, passed, refused

GATE = "rubric"
PROMPT_NAME, PROMPT_VERSION = "quality-rubric", 1
POINTS = ("alignment", "completeness", "logic")
FENCED = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        **{point: {"type": "integer", "enum": [0, 1, 2]} for point in POINTS},
        "reason": {"type": "string"},
    },
    "required": [*POINTS, "reason"],
    "additionalProperties": False,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rating:
    """0, 1 or 2 a point."""

    alignment: int
    completeness: int
    logic: int
    reason: str = ""

    def points(self) -> dict[str, int]:
        return {point: getattr(self, point) for point in POINTS}


def parse_rating(reply: str) -> Rating:
    """A teacher's reply → its rating; raises DataError for anything but one object with three whole numbers 0–2.

    Strict, since a rating that is guessed out of prose lets bad items through.
    """
    text = reply.strip()
    fenced = FENCED.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except json.JSONDecodeError as error:
        raise DataError(f"a rating that is no JSON ({error.msg}): {text[:80]!r}", "one JSON object") from None
    if not isinstance(value, dict) or not set(POINTS) <= set(value) <= {*POINTS, "reason"}:
        raise DataError(f"a rating without the three points, or with more: {text[:80]!r}", f"the keys {POINTS}, reason")
    wrong = {point: value[point] for point in POINTS if type(value[point]) is not int or value[point] not in (0, 1, 2)}
    if wrong:
        raise DataError(f"a rating with {wrong}", "0, 1 or 2")
    return Rating(**{point: value[point] for point in POINTS}, reason=str(value.get("reason", "")))


def rubric_decision(rating: Rating) -> GateDecision:
    """Any 0 refuses; a 1 is a mark."""
    points = rating.points()
    evidence = ", ".join(f"{point} {value}" for point, value in points.items()) + f": {rating.reason[:160]}"
    for point, value in points.items():
        if value == 0:
            return refused(GATE, f"{point} is bad", evidence)
    limited = [point for point, value in points.items() if value == 1]
    return marked(GATE, f"limited {', '.join(limited)}", evidence) if limited else passed(GATE, evidence)


def rubric_gate(reply_of: Callable[[Item], str]) -> Gate:
    """A gate over replies: ``reply_of`` gives the teacher's text on an item. A reply that cannot be read refuses."""

    def gate(item: Item) -> GateDecision:
        try:
            return rubric_decision(parse_rating(reply_of(item)))
        except DataError as error:
            return refused(GATE, "the rating cannot be read", error.seen)

    return gate
