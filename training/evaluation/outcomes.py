"""The table of outcomes: one row a judged answer. Everything in this folder computes from it and nothing else.

``status`` error and timeout are our own failures and have no score: they are counted, and left out of n. An abstained
answer is the policy's failure: wrong, and inside n.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from residency.platform.errors import DataError
from residency.platform.reasoning import split_reasoning
from residency.platform.records import AnswerKind, Item, Status, Trace, Verdict
from residency.platform.verifiers.accepting import accept

OUTCOME_SCHEMA: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "item_id": pl.String,
    "cluster": pl.String,
    "dataset": pl.String,
    "task": pl.String,  # questions of one task share their vocabulary of answers
    "sample_index": pl.Int32,
    "correct": pl.Boolean,
    "valid_format": pl.Boolean,
    "status": pl.String,
    "answer_kind": pl.String,
    "answer": pl.String,
    "gold": pl.String,
    "n_options": pl.Int32,
    "seed": pl.Int64,  # the run's seed, not the sampler's
    "trace_id": pl.String,
    "evidence": pl.String,  # of the verdict: the span and the rule that fired
}
OPTIONAL = ("task", "trace_id", "evidence")  # nothing is computed from them alone
SCORED = (Status.SCORED.value, Status.ABSTAINED.value)


def outcomes_table(
    items: Iterable[Item], traces: Iterable[Trace], verdicts: Iterable[Verdict], *, dataset: str, seed: int
) -> pl.DataFrame:
    """Join traces with their items and verdicts; one row a trace, in the traces' order.

    An answer counts as correct where its verdict is accepted. Raises DataError for a trace without its item or verdict.
    """
    item_of, verdict_of = {item.id: item for item in items}, {verdict.trace_id: verdict for verdict in verdicts}
    rows = []
    for trace in traces:
        item, verdict = item_of.get(trace.item_id), verdict_of.get(trace.id)
        if item is None or verdict is None:
            absent = "item" if item is None else "verdict"
            raise DataError(f"trace {trace.id} of item {trace.item_id} has no {absent}", "one for every trace")
        rows.append(outcome_row(item, verdict, trace.text, sample_index=trace.sample_index, dataset=dataset, seed=seed))
    return pl.DataFrame(rows, schema=dict(OUTCOME_SCHEMA))


def outcome_row(
    item: Item, verdict: Verdict, text: str, *, sample_index: int, dataset: str, seed: int
) -> dict[str, object]:
    """One row of the table."""
    return {
        "item_id": item.id,
        "cluster": item.cluster,
        "dataset": dataset,
        "task": str(item.metadata.get("task", "")),
        "sample_index": sample_index,
        "correct": accept(verdict),
        "valid_format": verdict.parts.get("format", 0.0) >= 1.0,
        "status": verdict.status.value,
        "answer_kind": item.answer_kind.value,
        "answer": split_reasoning(text)[1],
        "gold": item.answer,
        "n_options": len(item.options) if item.answer_kind is AnswerKind.CHOICE else 0,
        "seed": seed,
        "trace_id": verdict.trace_id,
        "evidence": verdict.evidence,
    }


def check_outcomes(outcomes: pl.DataFrame, what: str = "outcomes") -> None:
    """Raise DataError where columns are absent, the table is empty, or an answer is there twice."""
    absent = [name for name in OUTCOME_SCHEMA if name not in outcomes.columns and name not in OPTIONAL]
    if absent:
        raise DataError(f"{what} without the columns {absent}", f"the columns {list(OUTCOME_SCHEMA)}")
    if outcomes.is_empty():
        raise DataError(f"{what} without a row", "at least one judged answer", "is the split empty?")
    key = ["seed", "dataset", "item_id", "sample_index"]
    twice = outcomes.height - outcomes.select(key).n_unique()
    if twice:
        raise DataError(f"{what}: {twice} answers are there twice", f"one row for each {key}")


def scored(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The rows inside n: scored or abstained (an abstained one is wrong whatever ``correct`` says)."""
    judged = outcomes.filter(pl.col("status").is_in(SCORED))
    return judged.with_columns(correct=pl.col("correct") & (pl.col("status") == Status.SCORED.value))


def cluster_numbers(outcomes: pl.DataFrame) -> NDArray[np.int64]:
    """[N] the rows' clusters as numbers 0 … C−1; clusters of different datasets are different."""
    return outcomes.select(pl.struct("dataset", "cluster").rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
