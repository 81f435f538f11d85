"""The ledger: one row for every trace, accepted *and* rejected, and one for every item, with decision and reason."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from residency.synthesis.pipeline.arrow_log import read_log

LEDGER, OUTCOMES = "ledger", "outcomes"
S, N, F = pa.string(), pa.int64(), pa.float64()
LEDGER_SCHEMA = pa.schema(
    [
        ("trace_id", S),
        ("key", S),  # the journal's
        ("item_id", S),
        ("source", S),
        ("source_row", S),  # the source's own key of the row, where the importer kept it
        ("licence", S),
        ("teacher", S),
        ("model", S),  # as the endpoint calls itself
        ("revision", S),
        ("prompt", S),  # name and version
        ("prompt_hash", S),  # SHA-256 of the prompt's file
        ("seed", N),
        ("temperature", F),
        ("tokens_in", N),
        ("tokens_out", N),
        ("cost", F),
        ("seconds", F),
        ("verdict", S),  # a verdict's status; "malformed" where there was nothing to judge
        ("accuracy", F),  # null where it was not judged
        ("evidence", S),
        ("strategy", S),  # routing.samples.Strategy
        ("decision", S),  # accepted | rejected
        ("reason", S),
    ],
    metadata={"record": "LedgerRow", "schema_version": "1"},
)
OUTCOME_SCHEMA = pa.schema(
    [
        ("item_id", S),
        ("decision", S),
        ("reason", S),
        ("right", pa.int32()),  # of the first teacher's free samples: what the RL curriculum reads
        ("samples", pa.int32()),
        ("teacher", S),  # who solved it; empty where nobody did
        ("accepted", pa.int32()),  # traces
        ("asked", pa.int32()),
    ],
    metadata={"record": "SynthesisOutcome", "schema_version": "1"},
)


def trace_id(key: str, text: str) -> str:
    """Sixteen hex digits that name what was said under this key."""
    return hashlib.sha256(f"{key}\0{text}".encode()).hexdigest()[:16]


def rows_batch(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows in the order of the schema's columns as a batch."""
    arrays = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def last_rows(folder: Path, kind: str, key: str) -> Iterator[dict[str, Any]]:
    """Every row once: a kill between a row and the journal's word for it leaves a second one, and the last counts."""
    last: dict[str, int] = {}
    number = 0
    for batch in read_log(folder, kind, [key]):
        for value in batch.column(0).to_pylist():
            last[value] = number
            number += 1
    number = 0
    for batch in read_log(folder, kind):
        for row in batch.to_pylist():
            if last[row[key]] == number:
                yield row
            number += 1


def read_ledger(folder: Path) -> pa.Table:
    """The whole ledger of a run's synthesis folder, each trace once."""
    return pa.Table.from_pylist(list(last_rows(folder, LEDGER, "key")), schema=LEDGER_SCHEMA)


def read_outcomes(folder: Path) -> pa.Table:
    """The items that are decided, each once."""
    return pa.Table.from_pylist(list(last_rows(folder, OUTCOMES, "item_id")), schema=OUTCOME_SCHEMA)


def count_outcomes(folder: Path) -> dict[str, int]:
    """Decision (and reason of a rejection) → items."""
    counts = Counter(
        row["decision"] if row["decision"] == "accepted" else f"{row['decision']}: {row['reason']}"
        for row in last_rows(folder, OUTCOMES, "item_id")
    )
    return dict(counts.most_common())
