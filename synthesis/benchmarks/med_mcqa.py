"""MedMCQA: JSON lines as first released (``cop`` counts from 1) or Hugging Face Parquet (``cop`` counts from 0)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family
from residency.synthesis.benchmarks.gold_answers import labels
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import Record, UnusableRow, parquet_records
from residency.synthesis.benchmarks.text_rows import build_all, check_options, json_rows, parse, variant_files

PATTERNS = {
    "dev": ("dev.json", "validation-*.parquet", "data/validation-*.parquet"),
    "train": ("train.json", "train-*.parquet", "data/train-*.parquet"),
    "test": ("test.json", "test-*.parquet", "data/test-*.parquet"),
}
NO_GOLD = (None, -1)  # the released test file has no `cop`; the Hugging Face copy writes -1
CLASS_NAMES = ["a", "b", "c", "d"]
COLUMNS = ("id", "question", "opa", "opb", "opc", "opd")


class ExamQuestion(BaseModel):
    """One row of either form."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: str
    question: str
    opa: str | None
    opb: str | None
    opc: str | None
    opd: str | None
    cop: int | None = None
    choice_type: str | None = None
    exp: str | None = None
    subject_name: str | None = None
    topic_name: str | None = None


def read_med_mcqa(source: Path, variant: str) -> Iterator[Row | Refused]:
    """Every row of the variant's files; how ``cop`` counts is found out before the first row is used."""
    for path in variant_files(source, PATTERNS, variant):
        base = answer_base(path)
        yield from build_all(records_of(path), lambda record, base=base: to_row(record, base))


def records_of(path: Path) -> Iterator[Record | Refused]:
    return parquet_records([path], COLUMNS) if path.suffix == ".parquet" else json_rows(path)


def answer_base(path: Path) -> int:
    """What ``cop`` calls the first option, 0 or 1, by evidence from the file alone.

    A ``cop`` of 0 exists only when counting from 0, one of 4 only when counting from 1; without either, the class
    names in a Hugging Face Parquet settle it. Raises DataError where the evidence is contrary or there is none.
    """
    seen = {value for value in cop_values(path) if value not in NO_GOLD}
    if {0, 4} <= seen:
        raise DataError(f"{path} has a cop of 0 and one of 4", "0 to 3, or 1 to 4", "two forms were mixed: import one")
    if 0 in seen or (path.suffix == ".parquet" and 4 not in seen and has_class_names(path)):
        return 0
    if 4 in seen or not seen:  # without any gold nothing depends on it
        return 1
    raise DataError(
        f"{path} has only the cop values {', '.join(map(str, sorted(seen, key=str)))}: they may count from 0 or from 1",
        "a file in which 0 or 4 occurs, or the Hugging Face Parquet with its class names",
        "import the whole file as published",
    )


def cop_values(path: Path) -> set[int | None]:
    """The values of ``cop`` in a file; one that is no whole number is left to the check of its row."""
    values = (record.fields.get("cop") for record in records_of(path) if not isinstance(record, Refused))
    return {value for value in values if value is None or isinstance(value, int)}


def has_class_names(path: Path) -> bool:
    """Whether the Parquet's own description says that ``cop`` is a class a–d, which counts from 0."""
    written = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
    try:
        return json.loads(written)["info"]["features"]["cop"]["names"] == CLASS_NAMES
    except (ValueError, KeyError, TypeError):
        return False


def to_row(record: Record, base: int) -> Row:
    """The row, where it has a gold answer; ``base`` is what ``cop`` calls the first option."""
    asked = parse(ExamQuestion, record)
    options = tuple((option or "").strip() for option in (asked.opa, asked.opb, asked.opc, asked.opd))
    if asked.cop is None or asked.cop in NO_GOLD:
        raise UnusableRow("no gold answer (the test split keeps them back)")
    right = asked.cop - base
    if not 0 <= right < len(options):
        raise UnusableRow("cop names no option", f"{asked.cop}, counting from {base}")
    check_options(options)
    return Row(
        key=asked.id,
        where=record.where,
        question=asked.question,
        options=options,
        answer=options[right],
        answer_kind=AnswerKind.CHOICE,
        metadata=labels(
            language="en",
            question_type=asked.choice_type,
            specialty=asked.subject_name,
            topic=asked.topic_name,
            explanation=asked.exp,
        ),
    )


MED_MCQA = Benchmark(
    name="med-mcqa",
    title="MedMCQA",
    licence="Apache 2.0",
    family=Family.TEXTUAL_REASONING,
    published={"dev": 4183, "train": 182822, "test": 6150},
    source="arXiv:2203.14371 (Pal et al. 2022); hub openlifescienceai/medmcqa, GitHub medmcqa/medmcqa",
    read=read_med_mcqa,
    note="Scored on dev: the answers of test are kept back. The original repository's table has the sizes of dev and"
    " test swapped. choice_type `multi` still has a single gold option.",
    files="dev.json or validation-*.parquet (train and test likewise)",
)
BENCHMARKS = (MED_MCQA,)
