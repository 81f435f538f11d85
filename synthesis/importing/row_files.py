"""Any JSON, JSONL, CSV, TSV or Parquet file row by row, in memory that does not grow with rows."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from residency.platform.errors import DataError
from residency.synthesis.benchmarks.importing import Refused
from residency.synthesis.benchmarks.published_files import Record, parquet_records
from residency.synthesis.benchmarks.text_rows import json_rows, not_utf8

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
CHUNK = 1 << 20  # characters
LONGEST_ROW = 256 << 20  # characters; a data URL of a picture fits, a file that is one broken row does not
LONGEST_CELL = 64 << 20


def row_files(source: Path) -> list[Path]:
    """``source`` itself, or the row files right in it, in order of name; raises DataError where they are no one set."""
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise DataError(f"{source} is of no known kind", f"a file that ends in {', '.join(SUFFIXES)}")
        return [source]
    if not source.is_dir():
        raise DataError(f"{source} does not exist", "a file of rows, or the folder that holds it")
    found = sorted(
        path for path in source.iterdir() if path.suffix.lower() in SUFFIXES and path.name != "dataset_info.json"
    )
    if not found or len({path.suffix.lower() for path in found}) > 1:
        names = ", ".join(path.name for path in found[:8]) or "none"
        raise DataError(f"{source} holds no one set of rows (it has {names})", "files of one kind", "name the file")
    return found


def read_rows(source: Path) -> Iterator[Record | Refused]:
    """Every row of the source's files; numbers count on from file to file."""
    number = 0
    for path in row_files(source):
        for row in rows_of(path):
            number += 1
            if isinstance(row, Refused):
                yield Refused(key=str(number), where=row.where, reason=row.reason, detail=row.detail)
            else:
                yield Record(row.where, number, row.fields)


def rows_of(path: Path) -> Iterator[Record | Refused]:
    """The rows of one file by its suffix."""
    match path.suffix.lower():
        case ".parquet":
            return parquet_records([path], ())
        case ".jsonl" | ".ndjson":
            return json_rows(path)
        case ".json":
            return json_array(path)
        case ".csv":
            return table_rows(path)
        case _:
            return table_rows(path, "\t")


def column_names(source: Path) -> list[str] | None:
    """The columns of the first file where its kind names them once (Parquet, CSV); None where each row has its own."""
    path = row_files(source)[0]
    match path.suffix.lower():
        case ".parquet":
            try:
                return pq.read_schema(path).names
            except (pa.ArrowInvalid, OSError) as error:
                raise DataError(f"{path} cannot be read as Parquet ({error})", "a Parquet file") from error
        case ".csv" | ".tsv":
            return header_of(path, "\t" if path.suffix.lower() == ".tsv" else None)[1]
        case _:
            return None


def json_array(path: Path) -> Iterator[Record | Refused]:
    """The elements of a JSON list, one at a time; an element that is no object is refused.

    Raises DataError where the file is no list, and at the place where it breaks off or is no JSON any more: after a
    broken element nobody can say where the next one begins.
    """
    decoder = json.JSONDecoder()
    buffer, place, ended, number = "", 0, False, 0
    try:
        with path.open(encoding="utf-8-sig") as file:

            def fill() -> bool:
                nonlocal buffer, place, ended
                piece = file.read(max(CHUNK, len(buffer) - place))  # doubling: a long row is not parsed too often
                buffer, place, ended = buffer[place:] + piece, 0, ended or not piece
                return bool(piece)

            def next_mark() -> str:
                nonlocal place
                while True:
                    while place < len(buffer) and buffer[place] in " \t\r\n":
                        place += 1
                    if place < len(buffer) or not fill():
                        return buffer[place : place + 1]

            if next_mark() != "[":
                raise DataError(f"{path} is no JSON list", "[{…}, {…}], or .jsonl with one object a line")
            place += 1
            while next_mark() != "]":
                value: Any
                while True:
                    try:
                        value, end = decoder.raw_decode(buffer, place)
                    except (json.JSONDecodeError, RecursionError) as error:
                        if len(buffer) - place > LONGEST_ROW or not fill():
                            raise DataError(
                                f"{path} is not JSON at row {number + 1} ({error})",
                                "a whole list of objects",
                                "mend the file there, or save it as .jsonl: then a broken line costs only that line",
                            ) from error
                        continue
                    cut = not isinstance(value, (dict, list, str)) and buffer[end : end + 1] not in tuple(",] \t\r\n")
                    if not cut or len(buffer) - place > LONGEST_ROW or not fill():
                        break  # else a number goes on in the next piece
                place, number = end, number + 1
                where = f"{path.name} row {number}"
                if isinstance(value, dict):
                    yield Record(where, number, value)
                else:
                    yield Refused(key=str(number), where=where, reason="the row is JSON, but no object")
                mark = next_mark()
                if mark == ",":
                    place += 1
                elif mark != "]":
                    raise DataError(f"{path} breaks off after row {number}", "`,` or `]` there", "mend the file")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def header_of(path: Path, delimiter: str | None) -> tuple[str, list[str]]:
    """Delimiter and column names; where none is given, the one of comma, semicolon and tab that parts the header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = next(iter(file), "")
        found = [
            (mark, next(csv.reader([line], delimiter=mark), [])) for mark in ([delimiter] if delimiter else ",;\t")
        ]
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except csv.Error as error:
        raise DataError(f"{path} is not CSV ({error})", "a header and one row a line") from error
    mark, cells = max(found, key=lambda pair: len(pair[1]))
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names) or not any(names):
        raise DataError(f"{path} has the header {line.strip()[:200]!r}", "each column once", "rename one")
    return mark, names


def table_rows(path: Path, delimiter: str | None = None) -> Iterator[Record | Refused]:
    """The rows of a CSV or TSV file; one with more or fewer cells than the header is refused."""
    mark, header = header_of(path, delimiter)
    csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=mark)
            next(lines)
            for number, cells in enumerate(lines, start=1):
                where = f"{path.name} row {number}"
                if not cells:
                    continue  # a blank line
                if len(cells) == len(header):
                    yield Record(where, number, dict(zip(header, cells, strict=True)))
                else:
                    detail = f"{len(cells)} cells, {len(header)} columns"
                    yield Refused(key=str(number), where=where, reason="not one cell a column", detail=detail)
    except csv.Error as error:
        raise DataError(f"{path} is not CSV ({error})", "cells in quotes where they hold a delimiter") from error
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
