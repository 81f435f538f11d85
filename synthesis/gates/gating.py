"""Gates over a stream of items: each item with all decisions on it, counts by gate and reason, nothing kept in
memory."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from residency.platform.media_store import MediaStore
from residency.platform.records import Item
from residency.synthesis.gates import consistency, dicom_tags, identifying_text, image_sanity, licence
from residency.synthesis.gates.decision import Gate, GateDecision, Outcome, refused

FAULT = "the gate failed"


@dataclass(frozen=True, slots=True)
class Gated:
    """An item with its decisions, in the order of the gates; after a refusal no further gate is asked."""

    item: Item
    decisions: tuple[GateDecision, ...]

    @property
    def refused(self) -> bool:
        return any(decision.outcome is Outcome.REFUSED for decision in self.decisions)

    def marks(self) -> tuple[str, ...]:
        """``gate: reason`` of each mark."""
        return tuple(f"{d.gate}: {d.reason}" for d in self.decisions if d.outcome is Outcome.MARKED)


@dataclass(slots=True)
class GateTally:
    """Counts of what passed through: items in, kept, marked, and by (gate, outcome, reason)."""

    items: int = 0
    kept: int = 0
    reasons: Counter[tuple[str, Outcome, str]] = field(default_factory=Counter)

    def add(self, gated: Gated) -> None:
        self.items += 1
        self.kept += not gated.refused
        for decision in gated.decisions:
            if decision.outcome is not Outcome.PASSED:
                self.reasons[decision.gate, decision.outcome, decision.reason] += 1

    def as_json(self) -> Mapping[str, Any]:
        """For ``summary.json`` and the dataset card."""
        rows = [[*key, count] for key, count in sorted(self.reasons.items())]
        return {"items": self.items, "kept": self.kept, "refused": self.items - self.kept, "reasons": rows}


def run_gates(items: Iterable[Item], gates: Mapping[str, Gate], tally: GateTally) -> Iterator[Gated]:
    """Ask the gates of each item in turn. One bad row never stops the others: a gate that fails refuses the item."""
    for item in items:
        decisions: list[GateDecision] = []
        for name, gate in gates.items():
            try:
                decision = gate(item)
            except Exception as error:  # the boundary of one item: whatever its data did to a rule is its own refusal
                decision = refused(name, FAULT, f"{type(error).__name__}: {error}"[:160])
            decisions.append(decision)
            if decision.outcome is Outcome.REFUSED:
                break
        gated = Gated(item, tuple(decisions))
        tally.add(gated)
        yield gated


def kept_items(gated: Iterable[Gated], ledger: Path) -> Iterator[Item]:
    """The items that no gate refused; every decision that is no pass goes to ``ledger``, one JSON line each."""
    with ledger.open("w", encoding="utf-8") as file:
        for each in gated:
            for decision in each.decisions:
                if decision.outcome is not Outcome.PASSED:
                    file.write(json.dumps({"item_id": each.item.id} | asdict(decision), ensure_ascii=False) + "\n")
            if not each.refused:
                yield each.item


def rule_gates(media: MediaStore, allowed_licences: Collection[str] = ()) -> dict[str, Gate]:
    """The gates that need no model, the cheap ones first, since a refusal ends an item's way."""
    return {
        licence.GATE: lambda item: licence.licence_gate(item, allowed_licences),
        dicom_tags.GATE: dicom_tags.dicom_tags_gate,
        consistency.GATE: consistency.consistency_gate,
        identifying_text.GATE: identifying_text.identifying_text_gate,
        image_sanity.GATE: image_sanity.image_sanity_gate(media),
    }
