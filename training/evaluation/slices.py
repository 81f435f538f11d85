"""Accuracy by modality, question type, organ, specialty, language and task, from the items' metadata."""

from collections.abc import Iterable
from typing import Any

import polars as pl

from residency.platform.records import Item
from residency.training.evaluation.intervals import clustered_interval
from residency.training.evaluation.outcomes import check_outcomes, cluster_numbers, scored

SLICES = ("modality", "question_type", "organ", "specialty", "language", "task")
FEWEST_QUESTIONS = 10  # with fewer, an interval is as wide as the scale
POOLED, NOT_STATED = f"other (<{FEWEST_QUESTIONS})", "not stated"
Row = dict[str, Any]


def slice_rows(outcomes: pl.DataFrame, items: Iterable[Item], **labels: Any) -> list[Row]:
    """Rows ``{slice, value, questions, n, correct, accuracy, ci95, abstained, errors, pooled}`` with the labels before.

    Largest values first. Values with fewer than 10 questions stand together as ``other (<10)``; ``pooled`` names them.
    A slice that no item states, or in which all have one value, gives no row. ``accuracy`` and ``ci95`` are None where
    every verdict is an error.
    """
    check_outcomes(outcomes)
    metadata = {item.id: item.metadata for item in items}
    ids = outcomes["item_id"].unique(maintain_order=True).to_list()
    rows: list[Row] = []
    for name in SLICES:
        value_of = {key: value_text(metadata.get(key, {}).get(name)) for key in ids}
        if len(set(value_of.values())) < 2:
            continue
        values = outcomes.with_columns(value=pl.col("item_id").replace_strict(value_of, return_dtype=pl.String))
        counts = {
            value: frame.select("dataset", "item_id").n_unique()
            for (value,), frame in values.group_by(["value"], maintain_order=True)
        }
        few = sorted(str(value) for value, count in counts.items() if count < FEWEST_QUESTIONS)
        if few:
            values = values.with_columns(
                value=pl.when(pl.col("value").is_in(few)).then(pl.lit(POOLED)).otherwise(pl.col("value"))
            )
        found: list[Row] = []
        for (value,), frame in values.group_by(["value"], maintain_order=True):
            about = {"slice": name, "value": str(value), "pooled": few if value == POOLED else []}
            found.append(labels | about | _numbers(frame))
        found.sort(key=lambda row: (row["value"] in (POOLED, NOT_STATED), -row["questions"], row["value"]))
        rows += found
    return rows


def value_text(value: object) -> str:
    """A metadata value as a slice: text as it is, several values joined, nothing as ``not stated``."""
    if isinstance(value, list | tuple):
        return " + ".join(sorted(str(part) for part in value)) or NOT_STATED
    return str(value).strip() or NOT_STATED if value is not None else NOT_STATED


def _numbers(outcomes: pl.DataFrame) -> Row:
    inside = scored(outcomes)
    correct = inside["correct"].to_numpy()
    return {
        "questions": outcomes.select("dataset", "item_id").n_unique(),
        "n": inside.height,
        "correct": int(correct.sum()),
        "accuracy": float(correct.mean()) if inside.height else None,
        "ci95": list(clustered_interval(correct, cluster_numbers(inside))) if inside.height else None,
        "abstained": int((inside["status"] == "abstained").sum()),
        "errors": outcomes.height - inside.height,
    }
