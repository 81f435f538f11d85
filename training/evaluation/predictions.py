"""Kept predictions of one sitting: what was said, so that any profile can score it again without generating.

Parquet for programs, JSON lines for people (with question, options and gold beside each answer).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from residency.platform.arrow_tables import SCHEMA_VERSION, check_schema_version
from residency.platform.errors import DataError
from residency.platform.records import REFUSED, Item, PromptMode, Trace
from residency.platform.run_folder import write_whole
from residency.platform.verifiers.refusal import refusal_verdict
from residency.training.evaluation.outcomes import OUTCOME_SCHEMA, outcome_row
from residency.training.evaluation.scoring.profiles import ScoringProfile

PREDICTION_SCHEMA: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "item_id": pl.String,
    "dataset": pl.String,
    "cluster": pl.String,
    "sample_index": pl.Int32,
    "seed": pl.Int64,  # the run's seed, not the sampler's
    "prompt_mode": pl.String,
    "text": pl.String,
    "finish_reason": pl.String,
    "trace_id": pl.String,
}
METADATA = {"record": "Prediction", "schema_version": str(SCHEMA_VERSION)}


def predictions_table(items: Iterable[Item], traces: Iterable[Trace], dataset: str, seed: int) -> pl.DataFrame:
    """One row a trace, in the traces' order; raises DataError for a trace whose item is not among the items."""
    item_of = {item.id: item for item in items}
    rows = [
        {
            "item_id": trace.item_id,
            "dataset": dataset,
            "cluster": _item(item_of, trace.item_id, trace.id).cluster,
            "sample_index": trace.sample_index,
            "seed": seed,
            "prompt_mode": trace.prompt_mode.value,
            "text": trace.text,
            "finish_reason": trace.finish_reason,
            "trace_id": trace.id,
        }
        for trace in traces
    ]
    return pl.DataFrame(rows, schema=dict(PREDICTION_SCHEMA))


def write_predictions(path_without_suffix: Path, table: pl.DataFrame, items: Iterable[Item]) -> None:
    """``<path>.jsonl``, then ``<path>.parquet``, each whole or not at all."""
    item_of = {item.id: item for item in items}

    def write_lines(aside: Path) -> None:
        with aside.open("w", encoding="utf-8") as file:
            for row in table.iter_rows(named=True):
                item = _item(item_of, row["item_id"], row["trace_id"])
                seen = {"question": item.question, "options": item.options, "gold": item.answer}
                file.write(json.dumps(row | seen, ensure_ascii=False) + "\n")

    write_whole(beside(path_without_suffix, ".jsonl"), write_lines)
    write_whole(
        beside(path_without_suffix, ".parquet"), lambda aside: table.write_parquet(aside, metadata=dict(METADATA))
    )


def beside(path: Path, suffix: str) -> Path:
    """The path with a suffix put behind its whole name (``v1.2`` keeps its ``.2``)."""
    return path.with_name(path.name + suffix)


def read_predictions(path: Path) -> pl.DataFrame:
    """The table of a Parquet file that ``write_predictions`` wrote; raises DataError where it is something else."""
    wanted = "predictions.parquet of a sitting, as `residency evaluate` keeps it"
    if not path.is_file():
        raise DataError(f"{path} does not exist", wanted)
    check_schema_version(pq.read_metadata(path).metadata, str(path))
    table = pl.read_parquet(path)
    absent = [name for name in PREDICTION_SCHEMA if name not in table.columns]
    if absent:
        raise DataError(f"{path} lacks the columns {absent}", wanted)
    return table.select(list(PREDICTION_SCHEMA))


def rescore(predictions: pl.DataFrame, items: Sequence[Item], profile: ScoringProfile) -> pl.DataFrame:
    """Outcomes of kept predictions under a profile, in their order. Nothing is generated.

    Raises DataError for a prediction whose item is not among the items: they are of another dataset.
    """
    item_of = {item.id: item for item in items}
    modes = {mode.value: mode for mode in PromptMode}
    columns: dict[str, list[object]] = {name: [] for name in OUTCOME_SCHEMA}
    for row in predictions.iter_rows(named=True):
        item = _item(item_of, row["item_id"], row["trace_id"])
        if row["finish_reason"] == REFUSED:
            verdict = refusal_verdict(row["trace_id"], row["text"])
        else:
            verdict = profile.score(item, row["trace_id"], row["text"], modes[row["prompt_mode"]])
        outcome = outcome_row(
            item,
            verdict,
            row["text"],
            sample_index=row["sample_index"],
            dataset=row["dataset"],
            seed=row["seed"],
        )
        for name, value in outcome.items():
            columns[name].append(value)
    return pl.DataFrame(columns, schema=dict(OUTCOME_SCHEMA))


def _item(item_of: Mapping[str, Item], item_id: str, trace_id: str) -> Item:
    item = item_of.get(item_id)
    if item is None:
        raise DataError(
            f"trace {trace_id} answers item {item_id}, which is not among the {len(item_of)} items given",
            "the items of the dataset that was asked",
            "give the dataset folder of this very sitting",
        )
    return item
