"""The review queue as a CSV sheet: out with one row an example that waits, in with a person's decisions."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from residency.platform.errors import DataError
from residency.platform.recipe import RewardConfig
from residency.platform.records import Example, Item, PromptMode, Target
from residency.platform.verifiers.judging import judge
from residency.synthesis.examples import make_example
from residency.synthesis.review.waiting import ACCEPT, EDIT, REJECT, Decision

DECIDED = ("decision", "reviewer", "time", "edited_completion", "comment")  # what a person fills in
COLUMNS = (
    "example_id", "item_id", "target", "pattern", "source", "licence", "question", "options", "answer", "media",
    "completion", *DECIDED,
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would carry such a cell out
RULES_ONLY = RewardConfig()


def shown(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def write_sheet(examples: Iterable[Example], items: Mapping[str, Item], media: Path) -> str:
    """The sheet's text; ``media`` is the folder whose files are named for the reader."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for example in examples:
        item = items[example.item_id]
        pictures = " ".join(str(media / key[:2] / key[2:4] / f"{key}.png") for key in example.media)
        row = (
            example.id, item.id, example.target.value, example.pattern or "", item.source, item.licence, item.question,
            " | ".join(item.options), item.answer, pictures, example.messages[-1]["content"], "", "", "", "", "",
        )  # fmt: skip
        writer.writerow([shown(cell) for cell in row])
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Sheet:
    """The decisions of a sheet, and the examples that reviewers wrote; rows without a decision still wait."""

    decisions: tuple[Decision, ...]
    edits: tuple[Example, ...]
    undecided: int


def read_sheet(text: str, waiting: Mapping[str, Example], items: Mapping[str, Item]) -> Sheet:
    """Decisions on examples that wait; raises DataError that names every bad row at once."""
    reader = csv.DictReader(io.StringIO(text))
    absent = [name for name in ("example_id", *DECIDED) if name not in (reader.fieldnames or ())]
    if absent:
        raise DataError(f"the sheet lacks the columns {', '.join(absent)}", "the header of the export", "export anew")
    rows = list(enumerate(reader, 2))  # the header is line 1
    times = Counter(row["example_id"] for _, row in rows if (row["decision"] or "").strip())
    decisions: list[Decision] = []
    edits: list[Example] = []
    mistakes: list[str] = []
    undecided = 0
    for line, row in rows:
        cells = {name: (row[name] or "").strip() for name in ("example_id", *DECIDED)}
        if not cells["decision"]:
            undecided += 1
            continue
        example = waiting.get(cells["example_id"])
        found = mistakes_of(cells, example, times)
        edited = None
        if example is not None and not found and cells["decision"].lower() == EDIT:
            edited = edit(items[example.item_id], example, cells["edited_completion"])
            found = [edited] if isinstance(edited, str) else []
        mistakes += [f"row {line}: {mistake}" for mistake in found]
        if not found and example is not None:
            written = edited if isinstance(edited, Example) else None
            edits += [written] if written else []
            decisions.append(decision_of(cells, written))
    if mistakes:
        listed = "\n  ".join(mistakes)
        raise DataError(
            f"{len(mistakes)} mistakes in the sheet, nothing was taken:\n  {listed}",
            "accept, edit or reject for examples that wait, each with reviewer and time",
            "correct these rows and apply the sheet again",
        )
    return Sheet(tuple(decisions), tuple(edits), undecided)


def mistakes_of(cells: Mapping[str, str], example: Example | None, times: Counter[str]) -> list[str]:
    """What is wrong with a row, the edited text apart."""
    key, decision = cells["example_id"], cells["decision"].lower()
    found = []
    if example is None:
        found.append(f"example {key!r} does not wait for a review here")
    elif times[key] > 1:
        found.append(f"example {key} is decided {times[key]} times")
    if decision not in (ACCEPT, EDIT, REJECT):
        found.append(f"decision {cells['decision']!r} is none of accept, edit, reject")
    if not cells["reviewer"]:
        found.append("no reviewer")
    if not is_time(cells["time"]):
        found.append(f"time {cells['time']!r} is no date like 2026-05-01 or 2026-05-01T10:30")
    if (decision == EDIT) != bool(cells["edited_completion"]):
        found.append("an edit needs edited_completion, the other decisions take none")
    return found


def is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def decision_of(cells: Mapping[str, str], edited: Example | None) -> Decision:
    return Decision(
        example_id=cells["example_id"],
        decision=cells["decision"].lower(),
        reviewer=cells["reviewer"],
        time=cells["time"],
        comment=cells["comment"],
        edited=cells["edited_completion"],
        edited_id=edited.id if edited else "",
    )


def edit(item: Item, example: Example, completion: str) -> Example | str:
    """The example with the reviewer's words, judged again by the rules; or why they cannot be taught."""
    kept = example.messages[-1]["content"][: example.loss_start]
    if not completion.startswith(kept):
        return f"the edit changes the sampled wrong part, which must stay letter by letter: {kept!r}"
    mode = PromptMode.DIRECT if example.target is Target.DIRECT else PromptMode.THINK
    verdict = judge(item, "", completion, mode, RULES_ONLY)
    if verdict.parts.get("accuracy") != 1.0 or verdict.parts.get("format") != 1.0:
        return f"the edited text is not right: {verdict.evidence}"
    made = make_example(
        item,
        example.target,
        completion,
        from_traces=example.from_traces,
        pattern=example.pattern,
        error_kind=example.error_kind,
        loss_start=example.loss_start,
    )
    return replace(made, messages=(*example.messages[:-1], made.messages[-1]))


def by_id(examples: Sequence[Example]) -> dict[str, Example]:
    return {example.id: example for example in examples}
