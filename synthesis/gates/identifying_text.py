"""The gate for identifying information in an item's words: dates, names, numbers of records, ways to reach a person,
high ages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from residency.platform.records import Item
from residency.synthesis.gates.decision import GateDecision, passed, refused
from residency.synthesis.gates.identifying_patterns import PATTERNS

GATE = "identifying_text"
# Names that stand in a diagnosis or on an instrument, also after a title (*Dr. Apgar* named a score).
EPONYMS = frozenset(
    str.split(
        "Apgar Alzheimer Babinski Barrett Bell Chagas Charcot Crohn Cushing Down Ewing Fallot Gleason Graves Hodgkin"
        " Huntington Kaposi Marfan Murphy Parkinson Pott Raynaud Turner Virchow Wilms Wilson Watson House"
    )
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What kind was found, and where: the text itself is not repeated in reports."""

    kind: str
    start: int
    end: int


def identifying(text: str) -> Iterator[Finding]:
    """Every stretch of the text that identifies somebody; pure, linear in the text."""
    for kind, patterns in PATTERNS.items():
        for pattern in patterns:
            for found in pattern.finditer(text):
                if not (kind == "a name" and found.groupdict().get("name") in EPONYMS):
                    yield Finding(kind, found.start(), found.end())


def texts_of(item: Item) -> Iterator[tuple[str, str]]:
    """(place, text) of everything a reader or a model would see, the annotations included."""
    yield "question", item.question
    yield "answer", item.answer
    for number, option in enumerate(item.options):
        yield f"option {number + 1}", option
    yield from _within("metadata", item.metadata)


def _within(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _within(f"{place}.{key}", each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _within(place, each)


def identifying_text_gate(item: Item) -> GateDecision:
    """Refuses an item that names or dates a person; the evidence says what and where, never the text."""
    found = [
        (finding.kind, f"{finding.kind} in {place} at {finding.start}–{finding.end}")
        for place, text in texts_of(item)
        for finding in identifying(text)
    ]
    return refused(GATE, found[0][0], "; ".join(text for _, text in found[:5])) if found else passed(GATE)
