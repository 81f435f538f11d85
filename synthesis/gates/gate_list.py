"""What the gates refused and marked as a CSV that a person may overrule, and the decisions read back out of it."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from residency.platform.errors import DataError
from residency.synthesis.duplicates.overrules import harmless
from residency.synthesis.gates.decision import GateDecision, Outcome, marked, refused

KEEP, LEAVE_OUT = "keep", "leave_out"
BY_A_PERSON = {KEEP: "kept by a person", LEAVE_OUT: "left out by a person"}
COLUMNS = ("item_id", "gate", "outcome", "reason", "evidence", "decision", "reviewer", "split", "question", "answer")
Row = dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateOverrule:
    """A person's decision, ``keep`` or ``leave_out``, on what one gate said of one item."""

    item_id: str
    gate: str
    decision: str
    reviewer: str

    def over(self, said: GateDecision) -> GateDecision:
        """The decision that counts; its evidence names the reviewer and what the gate had said."""
        evidence = f"{self.reviewer}; the gate said {said.outcome}" + (f": {said.reason}" if said.reason else "")
        return (marked if self.decision == KEEP else refused)(said.gate, BY_A_PERSON[self.decision], evidence)


Overrules = Mapping[tuple[str, str], GateOverrule]  # (item id, gate)


def read_gate_list(path: Path) -> Iterator[Row]:
    """Rows of a list that was written; raises DataError where it is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"item_id", "gate", "decision", "reviewer"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{path.name} lacks the columns {sorted(missing)}", f"the columns {COLUMNS}")
            for row in reader:
                yield {name: (row.get(name) or "").strip() for name in COLUMNS} | {"line": str(reader.line_num)}
    except FileNotFoundError:
        raise DataError(f"the list {path} does not exist", "gates.csv of an earlier run", "leave it out") from None


def read_gate_overrules(path: Path) -> dict[tuple[str, str], GateOverrule]:
    """Rows with a ``reviewer``; the others are left to the gates. Raises DataError that names the line."""
    found: dict[tuple[str, str], GateOverrule] = {}
    for row in read_gate_list(path):
        if not row["reviewer"]:
            continue
        word = row["decision"].lower()
        if word not in BY_A_PERSON or not row["item_id"] or not row["gate"]:
            raise DataError(
                f"line {row['line']} of {path.name}: item {row['item_id']!r}, gate {row['gate']!r}, decision {word!r}",
                f"an item's id, a gate, and {KEEP} or {LEAVE_OUT}",
                "mend the line, or leave its reviewer empty",
            )
        overrule = GateOverrule(item_id=row["item_id"], gate=row["gate"], decision=word, reviewer=row["reviewer"])
        if found.setdefault((overrule.item_id, overrule.gate), overrule).decision != word:
            raise DataError(
                f"line {row['line']} of {path.name} decides {word!r} on {overrule.item_id} and {overrule.gate}, an"
                " earlier one otherwise",
                "one decision on an item and a gate",
            )
    return found


def list_row(decision: GateDecision, reviewer: str, item: Iterable[str]) -> list[str]:
    """A row of the list; ``item`` gives id, split, question and answer."""
    item_id, *shown = item
    stays = LEAVE_OUT if decision.outcome is Outcome.REFUSED else KEEP
    row = (item_id, decision.gate, decision.outcome, decision.reason, decision.evidence, stays, reviewer, *shown)
    return [harmless(str(cell)) for cell in row]
