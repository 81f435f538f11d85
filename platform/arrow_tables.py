"""Arrow schemas of the records, and the only code that turns records into tables and back.

Every schema carries ``schema_version`` in its metadata: reading a newer one is an error that says so.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from residency.platform.errors import DataError
from residency.platform.records import (
    AnswerKind,
    Example,
    Family,
    Item,
    PromptMode,
    Split,
    Status,
    Target,
    Trace,
    Verdict,
)

SCHEMA_VERSION = 1
Record = TypeVar("Record", Item, Trace, Verdict, Example)


def _schema(name: str, columns: list[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(columns, metadata={"record": name, "schema_version": str(SCHEMA_VERSION)})


S, STRINGS = pa.string(), pa.list_(pa.string())

SCHEMAS: dict[type, pa.Schema] = {
    Item: _schema(
        "Item",
        [
            ("id", S),
            ("content_key", S),
            ("source", S),
            ("split", S),
            ("licence", S),
            ("cluster", S),
            ("patient_id", S),
            ("media", STRINGS),
            ("question", S),
            ("options", STRINGS),
            ("answer", S),
            ("answer_kind", S),
            ("family", S),
            ("metadata", S),
        ],
    ),
    Trace: _schema(
        "Trace",
        [
            ("id", S),
            ("item_id", S),
            ("role", S),
            ("model", S),
            ("prompt_mode", S),
            ("prompt_hash", S),
            ("seed", pa.int64()),
            ("sample_index", pa.int32()),
            ("prompt_token_ids", pa.list_(pa.int32())),
            ("token_ids", pa.list_(pa.int32())),
            ("logprobs", pa.list_(pa.float32())),
            ("policy_versions", pa.list_(pa.int64())),
            ("text", S),
            ("finish_reason", S),
            ("seconds", pa.float64()),
        ],
    ),
    Verdict: _schema(
        "Verdict",
        [
            ("trace_id", S),
            ("status", S),
            ("score", pa.float64()),
            ("parts", pa.map_(S, pa.float64())),
            ("evidence", S),
            ("verifier", S),
            ("verifier_version", S),
        ],
    ),
    Example: _schema(
        "Example",
        [
            ("id", S),
            ("item_id", S),
            ("messages", S),
            ("media", STRINGS),
            ("target", S),
            ("family", S),
            ("pattern", S),
            ("error_kind", S),
            ("from_traces", STRINGS),
            ("loss_start", pa.int32()),
        ],
    ),
}

JSON_FIELDS = {"metadata", "messages"}
DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "split": Split, "answer_kind": AnswerKind, "family": Family, "prompt_mode": PromptMode, "status": Status,
    "target": Target, "metadata": json.loads, "messages": lambda text: tuple(json.loads(text)), "parts": dict,
}  # fmt: skip


def to_table(records: Iterable[Record], record_type: type[Record]) -> pa.Table:
    """Records → one table of the record type's schema (empty input gives an empty table of that schema)."""
    schema = SCHEMAS[record_type]
    rows = list(records)
    columns = []
    for column in schema:
        values: list[Any] = [getattr(row, column.name) for row in rows]
        if column.name in JSON_FIELDS:
            values = [json.dumps(value, ensure_ascii=False) for value in values]
        elif column.name == "parts":
            values = [list(value.items()) for value in values]
        columns.append(pa.array(values, type=column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def check_schema_version(metadata: Mapping[bytes, bytes] | None, where: str) -> int:
    """The table's schema version; raises DataError where it is absent or newer than this code reads."""
    version = int((metadata or {}).get(b"schema_version", b"0"))
    if not 1 <= version <= SCHEMA_VERSION:
        raise DataError(
            f"{where} has schema_version {version or 'none'}",
            f"at most {SCHEMA_VERSION}, written by Residency",
            "read it with the Residency version that wrote it, or upgrade this one",
        )
    return version


def from_table(table: pa.Table, record_type: type[Record]) -> list[Record]:
    """Table → records; raises DataError for a newer schema_version or missing columns."""
    check_schema_version(table.schema.metadata, f"this {record_type.__name__} table")
    names = [f.name for f in fields(record_type)]
    absent = [name for name in names if name not in table.column_names]
    if absent:
        raise DataError(f"{record_type.__name__} table without the columns {absent}", f"the columns {names}")
    columns: dict[str, list[Any]] = {name: table.column(name).to_pylist() for name in names}
    for name in names:
        decode = DECODERS.get(name)
        if decode is not None:
            columns[name] = [decode(value) for value in columns[name]]
        elif pa.types.is_list(table.schema.field(name).type):
            columns[name] = [tuple(value) for value in columns[name]]
    return [record_type(**dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write aside, then rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    pq.write_table(table, aside)
    aside.replace(path)


def read_parquet(path: Path, record_type: type[Record]) -> list[Record]:
    """Records of a Parquet file written by ``write_parquet``."""
    if not path.is_file():
        raise DataError(f"{path} does not exist", f"a Parquet file of {record_type.__name__} records")
    table = pq.read_table(path)
    check_schema_version(table.schema.metadata, str(path))
    return from_table(table, record_type)
