"""Any Parquet, JSONL, JSON, CSV or TSV file whose columns are named by ``--map``, or are called as our fields are."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from residency.platform.records import AnswerKind
from residency.synthesis.benchmarks.exam import cell, column_name, options_of, right_option
from residency.synthesis.benchmarks.importing import Refused
from residency.synthesis.benchmarks.published_files import Record, UnusableRow
from residency.synthesis.importing.column_map import Columns, cells, text_of, with_defaults
from residency.synthesis.importing.image_cells import images_of
from residency.synthesis.importing.row_facts import FACT_ALIASES, FACT_FIELDS, image_folders, read_facts, read_labels
from residency.synthesis.importing.row_files import read_rows
from residency.synthesis.importing.row_reading import checked_rows, expand
from residency.synthesis.importing.source_row import ReadOptions, RowFormat, SourceRow

FIELDS = ("question", "answer", "options", "image", "kind", *FACT_FIELDS)
ALIASES = {
    "question": ("question",),
    "answer": ("answer",),
    "options": ("options", "choices"),
    "image": ("image", "images"),
    **FACT_ALIASES,
}
SEPARATORS = ("\n", "|", ";")  # of options written as one text; no comma, which stands in options too
KINDS = {kind.value: kind for kind in AnswerKind}


def read_table(source: Path, options: ReadOptions) -> Iterator[SourceRow | Refused]:
    """One row of the file, one question."""
    folders = image_folders(source, options)
    return expand(
        checked_rows(read_rows(source), source, options), partial(table_row, options=options, folders=folders)
    )


def table_row(record: Record, options: ReadOptions, folders: Sequence[Path]) -> list[SourceRow]:
    columns = with_defaults(options.columns, list(record.fields), ALIASES)
    images = tuple(image for value in cells(record.fields, columns, "image") for image in images_of(value, folders))
    return [asked_row(record, columns, options, images)]


def asked_row(record: Record, columns: Columns, options: ReadOptions, images: tuple[Any, ...]) -> SourceRow:
    """The row with these images; raises UnusableRow for options, a kind or an answer that cannot be used."""
    choices = choices_of(record.fields, columns)
    answer = text_of(record.fields, columns, "answer")
    written = text_of(record.fields, columns, "kind")
    if written and written not in KINDS:
        raise UnusableRow("its kind of answer is not known", f"{written!r}, known: {', '.join(KINDS)}")
    if choices and answer:
        answer = choices[right_option(answer, choices)]
    return SourceRow(
        **read_facts(record, columns, options).fields(),
        question=text_of(record.fields, columns, "question"),
        options=choices,
        answer=answer,
        answer_kind=KINDS.get(written),
        images=images,
        metadata=read_labels(record, columns),
    )


def choices_of(row: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    """The options of a row: several mapped columns, or one with a list, JSON or separated text; else ``option_a``, …"""
    if len(columns.get("options", ())) > 1:
        texts = [cell(row.get(name)) for name in columns["options"]]
        while texts and not texts[-1]:
            texts.pop()  # room for five, four given
        return tuple(texts)
    found = cells(row, columns, "options")
    if not found:
        mapped = {name for names in columns.values() for name in names}
        lettered = {column_name(name): value for name, value in row.items() if cell(value) and name not in mapped}
        return options_of(lettered) if {"option_a", "option_b"} <= set(lettered) and "options" not in columns else ()
    value = found[0]
    if isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
        mark = next((mark for mark in SEPARATORS if mark in value), None)
        if mark is None:
            raise UnusableRow("its options are one text without a separator", repr(value)[:80])
        value = [part.strip() for part in value.split(mark) if part.strip()]
    return options_of({"options": value})


TABLE = RowFormat(
    name="table",
    description="any Parquet, JSONL, JSON, CSV or TSV file: --map question=COL,answer=COL,options=COL,image=COL",
    files="a .parquet, .jsonl, .json, .csv or .tsv file, or the folder that holds it",
    fields=FIELDS,
    options=frozenset({"columns", "images", "salt"}),
    read=read_table,
)
