"""The story of one example: from the row of its source, through every trace, to where it was taught and practised."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from residency.platform.arrow_tables import from_table
from residency.platform.dataset_folder import ITEMS_FILE
from residency.platform.errors import DataError
from residency.platform.journal.reader import read_state
from residency.platform.records import Example, Item, Target
from residency.synthesis.annotations_teacher import TEACHER_NAME, write_trace
from residency.synthesis.gated_dataset import GATES_FILE
from residency.synthesis.gates.gate_list import read_gate_list
from residency.synthesis.invented import TEMPLATE, invent_wrong
from residency.synthesis.lineage.pool_file import find_example, place_in_mixture
from residency.synthesis.pipeline.arrow_log import read_log
from residency.synthesis.pipeline.ledger import LEDGER, last_rows
from residency.synthesis.pipeline.traces import read_texts
from residency.synthesis.review.waiting import is_queued, read_decisions
from residency.synthesis.synthesized import OUTCOMES_SCHEMA
from residency.synthesis.wrong_answers import has_facts

Row = dict[str, Any]
FOLDERS = ("synthesis", "synthesis/annotations", "synthesis/wrong")
SHOWN = (
    "trace_id", "key", "teacher", "model", "revision", "prompt", "prompt_hash", "seed", "temperature", "tokens_in",
    "tokens_out", "cost", "seconds", "verdict", "accuracy", "evidence", "strategy", "decision", "reason",
)  # fmt: skip


def tell_story(run: Path, example_id: str, synthesis: Mapping[str, Any], seed: int) -> Row | None:
    """Everything that the run knows of an example; None where it has no such example.

    ``synthesis`` is the recipe's part as it was dumped.
    """
    example = find_example(run, example_id)
    if example is None:
        return None
    item = read_item(run / "data", example.item_id)
    traces = traces_of(run, item, example, seed)
    place, size = place_in_mixture(run / "examples.parquet", example_id)
    return {
        "example": example_row(example),
        "item": item_row(item),
        "gates": gates_of(run, item.id),
        "outcome": outcome_of(run, item.id),
        "traces": traces,
        "review": review_of(run, example, synthesis.get("review") or {}, seed),
        "mixture": {"place": place, "size": size},
        "rl": rl_steps(run, item.id),
    }


def read_item(data: Path, item_id: str) -> Item:
    found = pq.read_table(data / ITEMS_FILE, filters=[("id", "=", item_id)])
    if not found.num_rows:
        raise DataError(f"{data} lacks the item {item_id}", "the dataset that the run was made of", "restore it")
    return from_table(found.slice(0, 1), Item)[0]


def example_row(example: Example) -> Row:
    completion = example.messages[-1]["content"]
    return {
        "id": example.id,
        "target": example.target.value,
        "strategy": example.pattern,
        "error_kind": example.error_kind,
        "from_traces": list(example.from_traces),
        "not_learned": completion[: example.loss_start],
        "learned": completion[example.loss_start :],
    }


def item_row(item: Item) -> Row:
    names = ("id", "source", "licence", "cluster", "question", "answer")
    return {name: getattr(item, name) for name in names} | {
        "source_row": str(item.metadata.get("row", "")),
        "split": item.split.value,
        "family": item.family.value,
        "options": list(item.options),
        "media": list(item.media),
    }


def gates_of(run: Path, item_id: str) -> list[Row] | None:
    """Marks of the gates on this item; None where the run's recipe asked no gates."""
    path = run / "lineage" / GATES_FILE
    if not path.is_file():
        return None
    names = ("gate", "outcome", "reason", "evidence", "reviewer")
    return [{name: row[name] for name in names} for row in read_gate_list(path) if row["item_id"] == item_id]


def outcome_of(run: Path, item_id: str) -> Row | None:
    """What the item's sampled traces came to; None where it was not sampled."""
    path = run / "lineage" / "outcomes.parquet"
    if not path.is_file():
        return None
    rows = pq.read_table(path, columns=OUTCOMES_SCHEMA.names, filters=[("item_id", "=", item_id)]).to_pylist()
    return rows[0] if rows else None


def traces_of(run: Path, item: Item, example: Example, seed: int) -> list[Row]:
    """Every trace of the item, accepted or not; ``used`` are those that the example was made of."""
    rows: list[Row] = []
    for folder in (run / name for name in FOLDERS):
        if not any(item.id in batch.column(0).to_pylist() for batch in read_log(folder, LEDGER, ["item_id"])):
            continue
        texts = read_texts(folder)
        rows += [
            {name: row[name] for name in SHOWN} | {"text": texts[row["trace_id"]][0]}
            for row in last_rows(folder, LEDGER, "key")
            if row["item_id"] == item.id
        ]
    known = {row["trace_id"] for row in rows}
    rows += [written(item, key, seed) for key in example.from_traces if key not in known]
    return [row | {"used": row["trace_id"] in example.from_traces} for row in rows]


def written(item: Item, trace_id: str, seed: int) -> Row:
    """A trace that nobody was asked for: written again here, from the item's facts, to see that it is the same."""
    if has_facts(item):
        made = [write_trace(item, seed, other_order=order) for order in (False, True)]
        invented = invent_wrong(item, seed)
        for trace in (*made, *([invented] if invented else [])):
            if trace.id == trace_id:
                how = "by template" if trace.model == TEMPLATE else "from the item's facts"
                return dict.fromkeys(SHOWN) | {
                    "trace_id": trace_id, "teacher": trace.model, "model": trace.model, "seed": seed,
                    "prompt_hash": trace.prompt_hash, "cost": 0.0, "text": trace.text, "decision": "accepted",
                    "strategy": TEACHER_NAME, "reason": f"written {how}, where no sampled trace was at hand",
                }  # fmt: skip
    return dict.fromkeys(SHOWN) | {"trace_id": trace_id, "text": "", "reason": "not on record"}


def review_of(run: Path, example: Example, config: Mapping[str, Any], seed: int) -> Row:
    """Whether a person must see it, and what was decided; ``edited_from`` where a reviewer wrote it."""
    decisions = read_decisions(run)
    edited_from = next((d for d in decisions.values() if d.edited_id == example.id), None)
    if edited_from is not None:
        return {"state": "written by a reviewer", "decision": edited_from.as_json()}
    if (decision := decisions.get(example.id)) is not None:
        return {"state": decision.decision, "decision": decision.as_json()}
    pattern = example.pattern if example.target is Target.REFLECTIVE else None
    waits = is_queued(example.id, example.target.value, pattern, config, seed)
    return {"state": "waits for a person" if waits else "not asked for", "decision": None}


def rl_steps(run: Path, item_id: str) -> list[Row]:
    """The optimizer steps of RL that took a group of this item, in order."""
    if not any((run / "journal").glob("segment-*.log")):
        return []
    steps = read_state(run / "journal").learner("rl").steps()
    return [
        {"step": step, "incarnation": incarnation, "group": key}
        for (incarnation, step), keys in steps
        for key in keys
        if key.rpartition("/")[2] == item_id
    ]
