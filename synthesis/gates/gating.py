"""Gates over a stream of items: each item with all decisions on it, counts by gate and reason, nothing kept in
memory."""

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residency.platform.gates_config import RULE_GATES
from residency.platform.media_store import MediaStore
from residency.platform.records import Item
from residency.synthesis.gates import consistency, dicom_tags, identifying_text, image_sanity, licence
from residency.synthesis.gates.decision import Gate, GateDecision, Outcome, refused
from residency.synthesis.gates.gate_list import COLUMNS, Overrules, list_row

FAULT = "the gate failed"


@dataclass(frozen=True, slots=True)
class Gated:
    """An item with its decisions, in the order of the gates; after a refusal no further gate is asked.

    ``reviewers`` names who decided in a gate's place, by gate.
    """

    item: Item
    decisions: tuple[GateDecision, ...]
    reviewers: Mapping[str, str] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        return any(decision.outcome is Outcome.REFUSED for decision in self.decisions)


@dataclass(slots=True)
class GateTally:
    """Counts of what passed through: items in, kept, decided by a person, and by (gate, outcome, reason)."""

    items: int = 0
    kept: int = 0
    overruled: int = 0
    reasons: Counter[tuple[str, Outcome, str]] = field(default_factory=Counter)

    def add(self, gated: Gated) -> None:
        self.items += 1
        self.kept += not gated.refused
        self.overruled += len(gated.reviewers)
        for decision in gated.decisions:
            if decision.outcome is not Outcome.PASSED:
                self.reasons[decision.gate, decision.outcome, decision.reason] += 1

    def by_reason(self, outcome: Outcome) -> dict[str, int]:
        """``gate: reason`` → items."""
        return {f"{gate}: {why}": n for (gate, what, why), n in sorted(self.reasons.items()) if what is outcome}

    def as_json(self) -> dict[str, Any]:
        """For ``summary.json`` and the dataset card."""
        return {
            "items": self.items,
            "kept": self.kept,
            "refused": self.by_reason(Outcome.REFUSED),
            "marked": self.by_reason(Outcome.MARKED),
            "decided_by_people": self.overruled,
        }


def run_gates(
    items: Iterable[Item], gates: Mapping[str, Gate], tally: GateTally, overrules: Overrules | None = None
) -> Iterator[Gated]:
    """Ask the gates of each item in turn. One bad row never stops the others: a gate that fails refuses the item.

    ``overrules`` are decisions of people, which stand above the gates'.
    """
    overrules = overrules or {}
    for item in items:
        decisions: list[GateDecision] = []
        reviewers: dict[str, str] = {}
        for name, gate in gates.items():
            try:
                decision = gate(item)
            except Exception as error:  # the boundary of one item: whatever its data did to a rule is its own refusal
                decision = refused(name, FAULT, f"{type(error).__name__}: {error}"[:160])
            if overrules and (overrule := overrules.get((item.id, name))):
                decision, reviewers[name] = overrule.over(decision), overrule.reviewer
            decisions.append(decision)
            if decision.outcome is Outcome.REFUSED:
                break
        gated = Gated(item, tuple(decisions), reviewers)
        tally.add(gated)
        yield gated


def kept_items(gated: Iterable[Gated], listed: Path) -> Iterator[Item]:
    """The items that no gate refused; every decision that is no pass goes to the CSV ``listed``, to be overruled."""
    aside = listed.with_name(f".{listed.name}.partial")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for each in gated:
            item = each.item
            shown = (item.id, item.split.value, item.question, item.answer)
            for decision in each.decisions:
                if decision.outcome is not Outcome.PASSED:
                    writer.writerow(list_row(decision, each.reviewers.get(decision.gate, ""), shown))
            if not each.refused:
                yield item
    aside.replace(listed)


def rule_gates(
    media: MediaStore, allowed_licences: Collection[str] = (), names: Collection[str] = RULE_GATES
) -> dict[str, Gate]:
    """Gates that need no model (those in ``names``), the cheap ones first, since a refusal ends an item's way."""
    gates: dict[str, Gate] = {
        licence.GATE: lambda item: licence.licence_gate(item, allowed_licences),
        dicom_tags.GATE: dicom_tags.dicom_tags_gate,
        consistency.GATE: consistency.consistency_gate,
        identifying_text.GATE: identifying_text.identifying_text_gate,
        image_sanity.GATE: image_sanity.image_sanity_gate(media),
    }
    return {name: gate for name, gate in gates.items() if name in names}
