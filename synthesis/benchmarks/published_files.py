"""Reading published files row by row: Parquet, JSON, JSONL and CSV, each row knowing where it stands.

A file that is not of the format at all is a DataError; a single row that cannot be used is an UnusableRow, which
``build_rows`` turns into a refusal.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from residency.platform.errors import DataError
from residency.synthesis.benchmarks.importing import Refused, Row

ROWS_AT_ONCE = 64  # of a Parquet file: images are in its rows


class UnusableRow(ValueError):
    """Why a row cannot be used: a reason that is counted and a detail that is shown."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Record:
    """One row as published; ``number`` counts from 1 over all files of the variant, ``where`` within its file."""

    where: str
    number: int
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """The field as text without outer blanks; raises UnusableRow where it is absent or empty."""
        text = self.optional(name)
        if not text:
            raise UnusableRow(f"no {name}")
        return text

    def optional(self, name: str) -> str:
        """The field as text without outer blanks, empty where it is absent."""
        value = self.fields.get(name)
        return "" if value is None else str(value).strip()


def build_rows(records: Iterator[Record], build: Callable[[Record], Row]) -> Iterator[Row | Refused]:
    """Each record as a row, or as a refusal with its reason."""
    for record in records:
        try:
            yield build(record)
        except UnusableRow as error:
            yield Refused(key=str(record.number), where=record.where, reason=error.reason, detail=error.detail)


def find_file(source: Path, names: Sequence[str]) -> Path:
    """The file ``source`` itself, or the first of ``names`` in or below the folder; raises DataError where none is."""
    if source.is_file():
        return source
    for name in names:
        if (source / name).is_file():
            return source / name
        found = sorted(source.rglob(name))
        if len(found) > 1:
            raise DataError(f"{source} holds {len(found)} files {name} ({', '.join(map(str, found[:3]))})", "one")
        if found:
            return found[0]
    raise DataError(f"{source} holds no {' or '.join(names)}", "the published file, or its folder")


def find_parquet(source: Path, split: str, folder: str = "") -> list[Path]:
    """A split's Parquet shards in order (``test-00000-of-00001.parquet``, ``test.parquet``), maybe of one folder."""
    if source.is_file():
        return [source]
    names = {path for pattern in (f"{split}-*.parquet", f"{split}.parquet") for path in source.rglob(pattern)}
    return sorted(path for path in names if not folder or path.parent.name == folder)


def parquet_records(paths: Sequence[Path], wanted: Sequence[str]) -> Iterator[Record]:
    """The rows of Parquet shards, a few at a time; raises DataError for what is no Parquet or lacks a column."""
    number = 0
    for path in paths:
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} cannot be read as Parquet ({error})", "the published file") from error
        with file:
            check_fields(path, file.schema_arrow.names, wanted)
            batches = (row for batch in file.iter_batches(ROWS_AT_ONCE) for row in batch.to_pylist())
            for position, fields in enumerate(batches, start=1):
                number += 1
                yield Record(f"{path.name} row {position}", number, fields)


def json_records(path: Path, wanted: Sequence[str]) -> Iterator[Record]:
    """The objects of a JSON list; raises DataError where the file is none, or where a field is in no object."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON ({error})", "the published file: a list of objects") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} is not a list of JSON objects", "the published file: a list of objects")
    check_fields(path, {name for row in rows for name in row}, wanted)
    for number, fields in enumerate(rows, start=1):
        yield Record(f"{path.name} row {number}", number, fields)


def jsonl_records(path: Path, wanted: Sequence[str]) -> Iterator[Record]:
    """The objects of a JSONL file; raises DataError for a line that is none, or where a field is in no object."""
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error})", "the published file: one JSON object a line") from error
    for position, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {position} of {path} is not JSON ({error})", "one JSON object a line") from error
        if not isinstance(row, dict):
            raise DataError(f"line {position} of {path} is not a JSON object", "one JSON object a line")
        rows.append((position, row))
    check_fields(path, {name for _, row in rows for name in row}, wanted)
    for number, (position, fields) in enumerate(rows, start=1):
        yield Record(f"{path.name} line {position}", number, fields)


def csv_records(path: Path, wanted: Sequence[str]) -> Iterator[Record]:
    """The rows of a CSV file with a header (blanks around its names are dropped); raises DataError without a column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = [name.strip() for name in next(lines, [])]
            check_fields(path, header, wanted)
            for number, cells in enumerate(lines, start=1):
                if cells:
                    yield Record(f"{path.name} row {number}", number, dict(zip(header, cells, strict=False)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as CSV ({error})", "the published file in UTF-8") from error


def check_fields(path: Path, seen: Sequence[str] | set[str], wanted: Sequence[str]) -> None:
    """Raise DataError where a field or column that the format always has is nowhere in the file."""
    absent = [name for name in wanted if name not in seen]
    if absent:
        raise DataError(
            f"{path} has no {', '.join(absent)}; it has {', '.join(sorted(map(str, seen))[:20]) or 'no fields'}",
            f"the fields {', '.join(wanted)}",
            "check that this is the published file, and the variant asked for",
        )


def image_bytes(value: Any) -> bytes:
    """The encoded bytes of a Hugging Face image cell ``{"bytes", "path"}``; raises UnusableRow where it has none."""
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(data, bytes) or not data:
        raise UnusableRow("no image in the row")
    return data


def image_file(folders: Sequence[Path], name: str) -> Path:
    """The named file in the first folder that has it; raises UnusableRow for a name that leads out, or is nowhere."""
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise UnusableRow("its image name leads out of the image folder", name)
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    raise UnusableRow("its image file is missing", name)
