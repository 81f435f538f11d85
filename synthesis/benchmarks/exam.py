"""Any multiple-choice exam as JSON lines or CSV: question, options, answer, and a few columns that slices use."""

import ast
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family, Item
from residency.platform.verifiers.normal_form import normal_form
from residency.synthesis.benchmarks.gold_answers import labels
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import Record, UnusableRow
from residency.synthesis.benchmarks.text_rows import (
    build_all,
    check_options,
    json_rows,
    not_utf8,
    reading,
)

SUFFIXES = (".csv", ".jsonl")
DELIMITERS = (",", ";", "\t")  # a spreadsheet set to a comma as decimal mark writes semicolons
LETTER_COLUMN = re.compile(r"(?:option_?)?([a-j])")
LABEL = re.compile(r"\(?([a-jA-J])[).:] *(?=\S)")  # `a) …`, `(B) …`, `C: …` before an option's text
LETTER_ANSWER = re.compile(r"\(?([a-j])[).:]?")
SLICES = ("specialty", "year", "language")
WANTED = "the columns question, answer, and options or option_a, option_b, … (or A, B, …), in any case"


def read_exam(source: Path, variant: str) -> Iterator[Row | Refused]:
    """Every row of the file (``variant`` only says what it will be used for); raises DataError where it is no exam."""
    path = exam_file(source)
    records = csv_rows(path) if path.suffix.lower() == ".csv" else json_rows(path)
    yield from build_all(records, lambda record: read_question(record, path))


def exam_file(source: Path) -> Path:
    """``source`` itself, or the only CSV or JSONL file in it."""
    if source.is_file():
        files = [source] if source.suffix.lower() in SUFFIXES else []
    else:
        files = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(files) != 1:
        seen = ", ".join(path.name for path in files) or "none"
        raise DataError(f"{source} gives {len(files)} exam files ({seen})", "one .csv or .jsonl", "name the file")
    return files[0]


def csv_rows(path: Path) -> Iterator[Record | Refused]:
    """Rows by column, with row and line; a row with more or fewer cells than the header is refused.

    Raises DataError where the header lacks what is wanted, where the text is not UTF-8, or where a quote is never
    closed (every row after it would be wrong).
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            delimiter, header = read_header(path, lines.readline())
            number = 0
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                number += 1
                where = f"{path.name} row {number} (line {reader.line_num + 1})"
                if len(cells) == len(header):
                    yield Record(where, number, dict(zip(header, cells, strict=True)))
                else:
                    detail = f"{len(cells)} cells, {len(header)} columns"
                    yield Refused(key=str(number), where=where, reason="not one cell a column", detail=detail)
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except csv.Error as error:
        raise DataError(f"{path} is not CSV ({error})", "cells in quotes where they hold a delimiter") from error


def read_header(path: Path, line: str) -> tuple[str, list[str]]:
    """The delimiter under which the header has a question and an answer, and the columns in the usual spelling."""
    for delimiter in DELIMITERS:
        header = [column_name(cell) for cell in next(csv.reader([line], delimiter=delimiter), [])]
        options = [name for name in header if name == "options" or LETTER_COLUMN.fullmatch(name)]
        if {"question", "answer"} <= set(header) and options:
            if len(set(header)) < len(header):
                raise DataError(f"{path} has a column twice: {line.strip()}", "each column once", "rename one")
            return delimiter, header
    raise DataError(f"{path} has the header {line.strip()[:200]!r}", WANTED, "rename the columns")


def column_name(written: str) -> str:
    """A column's name without regard to case, spaces and hyphens; option columns become ``option_a`` and so on."""
    name = re.sub(r"[\s-]+", "_", written.strip().casefold())
    letter = LETTER_COLUMN.fullmatch(name)
    return f"option_{letter[1]}" if letter else name


def read_question(record: Record, path: Path) -> Row:
    """One question; raises UnusableRow where it cannot be scored."""
    fields = {column_name(name): value for name, value in record.fields.items()}
    if len(fields) < len(record.fields):
        raise UnusableRow("a column twice", ", ".join(record.fields))
    row = Record(record.where, record.number, fields)
    question, answer = row.text("question"), row.text("answer")
    options = options_of(fields)
    right = right_option(answer, options)
    check_options(options)
    return Row(
        key=f"{path.stem}:{row.optional('id') or Item.make_content_key(question, options, ())}",  # all exams have a 1
        where=row.where,
        question=question,
        options=options,
        answer=options[right],
        answer_kind=AnswerKind.CHOICE,
        images=images_of(fields.get("image"), path.parent),
        metadata=labels(
            exam=path.stem,
            specialty=row.optional("specialty"),
            year=row.optional("year"),
            language=row.optional("language").casefold(),
        ),
    )


def cell(value: object) -> str:
    """A cell as text: absent is empty, a number is written out, and nothing else is guessed from."""
    if isinstance(value, str):
        return value.strip()
    return f"{value}" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def options_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The options in order, without labels of their own and without empty ones at the end."""
    listed = row.get("options")
    if isinstance(listed, str) and listed.strip():
        listed = listed_options(listed)
    if not listed:
        listed = {name[-1]: row[name] for name in row if re.fullmatch("option_[a-j]", name)}
    if isinstance(listed, Mapping):
        listed = [listed[name] for name in letters_of(listed)]
    if not isinstance(listed, (list, tuple)):
        raise UnusableRow("options is no list", repr(listed)[:80])
    texts = [cell(option) for option in listed]
    while texts and not texts[-1]:
        texts.pop()  # a question with four options in a file with room for five
    if not texts:
        raise UnusableRow("no options")
    marks = [LABEL.match(text) for text in texts]
    if all(mark and mark[1].upper() == chr(ord("A") + i) for i, mark in enumerate(marks)):
        texts = [text[mark.end() :] for text, mark in zip(texts, marks, strict=True) if mark]
    return tuple(texts)


def letters_of(options: Mapping[str, Any]) -> list[str]:
    """The keys in order; raises UnusableRow where they are not A, B, C, … (or a, b, c, …) without a gap."""
    letters = sorted(options)
    if not any(letters == [chr(ord(first) + i) for i in range(len(letters))] for first in "Aa"):
        raise UnusableRow("the options are not lettered A, B, C, …", ", ".join(letters))
    return letters


def listed_options(text: str) -> Any:
    """A list or an object written in one cell, as JSON or as Python writes it (its literals only, nothing is run)."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    raise UnusableRow("options is text, but no list in brackets", repr(text)[:80])


def right_option(answer: str, options: Sequence[str]) -> int:
    """Which option the answer names, by letter, text, or both; raises UnusableRow where none or several fit."""
    found = {i for i, option in enumerate(options) if reading(option) == reading(answer)}
    letter = LETTER_ANSWER.fullmatch(normal_form(answer))
    if letter and ord(letter[1]) - ord("a") < len(options):
        found.add(ord(letter[1]) - ord("a"))
    label = LABEL.match(answer)
    if label and not found:
        index = ord(label[1].upper()) - ord("A")
        if index < len(options) and reading(options[index]) == reading(answer[label.end() :]):
            found.add(index)
    if not found:
        raise UnusableRow("the answer is neither an option's letter nor its text", repr(answer)[:80])
    if len({reading(options[i]) for i in found}) > 1:
        raise UnusableRow("the answer is the letter of one option and the text of another", repr(answer)[:80])
    return min(found)


def images_of(value: object, folder: Path) -> tuple[Path, ...]:
    """The picture of a row, given relative to the exam's file; raises UnusableRow for a path that leads elsewhere."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    if not isinstance(value, str) or Path(value).is_absolute():
        raise UnusableRow("image is no path relative to the exam's file", repr(value)[:80])
    path = folder / value.strip()
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UnusableRow("the image path leads out of the exam's folder", repr(value)[:80])
    return (path,)


EXAM = Benchmark(
    name="exam",
    title="Any exam as JSONL or CSV",
    licence="unknown: as the exam's owner says",
    family=Family.TEXTUAL_REASONING,
    published={"test": None, "train": None},
    source="a file of your own",
    read=read_exam,
    note="Choice questions of one file. Refused: questions without a single right option among those listed, such as"
    " annulled ones or those with two keys. Count them before you compare with an official pass mark.",
    files=f"one .csv or .jsonl with {WANTED}; optional: id, specialty, year, language, image",
)
BENCHMARKS = (EXAM,)
