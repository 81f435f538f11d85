"""Rows of the text benchmarks: finding a variant's file, reading JSON lines one by one, and the checks they share.

A line that is broken costs that line: it is refused like any other row, and the rest of the file is read.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from residency.platform.errors import DataError
from residency.platform.verifiers.normal_form import bare, normal_form
from residency.synthesis.benchmarks.importing import Refused, Row
from residency.synthesis.benchmarks.published_files import Record, UnusableRow, build_rows

Model = TypeVar("Model", bound=BaseModel)


def variant_files(source: Path, patterns: Mapping[str, Sequence[str]], variant: str) -> list[Path]:
    """The files of one variant: ``source`` itself, or what its first fitting pattern finds in the folder ``source``.

    Raises DataError where a file's name says that it is another variant's, where a folder holds none, or where two
    patterns fit (then nobody can say which was meant).
    """
    if source.is_file():
        others = [v for v, globs in patterns.items() if any(source.match(glob) for glob in globs)]
        if others and variant not in others:
            raise DataError(
                f"{source} has the name of the variant {others[0]}, and {variant} was asked for",
                f"a file of {variant}",
                f"--variant {others[0]}, or give the right file",
            )
        return [source]
    found = {glob: sorted(source.glob(glob)) for glob in patterns[variant]}
    fitting = [files for files in found.values() if files]
    wanted = " or ".join(patterns[variant])
    if not fitting:
        seen = sorted(path.name for path in source.iterdir())[:8]
        raise DataError(f"{source} holds no file of the variant {variant} (it has {', '.join(seen) or 'none'})", wanted)
    if len(fitting) > 1:
        names = ", ".join(path.name for files in fitting for path in files)
        raise DataError(f"{source} holds several files of the variant {variant}: {names}", "one", "name the file")
    return fitting[0]


def json_rows(path: Path) -> Iterator[Record | Refused]:
    """Each line that is not blank as a record; a line that is no JSON object is refused.

    Raises DataError where the file is not UTF-8 text, or where its first row is no JSON at all.
    """
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for position, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                number += 1
                where = f"{path.name} line {position}"
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    if number == 1:
                        raise DataError(
                            f"{path} line {position} is not JSON ({error})", "one JSON object a line"
                        ) from error
                    yield Refused(key=str(number), where=where, reason="the line is not JSON", detail=str(error))
                else:
                    if isinstance(row, dict):
                        yield Record(where, number, row)
                    else:
                        yield Refused(key=str(number), where=where, reason="the line is JSON, but no object")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def build_all(records: Iterable[Record | Refused], build: Callable[[Record], Row]) -> Iterator[Row | Refused]:
    """``build_rows`` where some rows were refused already."""
    for record in records:
        if isinstance(record, Refused):
            yield record
        else:
            yield from build_rows(iter((record,)), build)


def not_utf8(path: Path, error: UnicodeDecodeError) -> DataError:
    return DataError(f"{path} is not UTF-8 text ({error.reason})", "UTF-8", "save it again as UTF-8, or convert it")


def parse(model: type[Model], record: Record) -> Model:
    """The row as ``model``; raises UnusableRow with the first field that does not fit, and the fields it has."""
    try:
        return model.model_validate(record.fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        seen = ", ".join(map(str, record.fields)) or "none"
        raise UnusableRow(f"field {field}: {first['msg']}", f"it has {seen}") from error


def check_options(options: Sequence[str]) -> None:
    """Raise UnusableRow for fewer than two options, or an empty one."""
    if len(options) < 2:
        raise UnusableRow("fewer than two options")
    empty = next((i for i, option in enumerate(options) if not option.strip()), None)
    if empty is not None:
        raise UnusableRow(f"option {chr(ord('A') + empty)} is empty")


def reading(text: str) -> str:
    """A text as the verifier of choices compares it."""
    normal = normal_form(text)
    return bare(normal) or normal
