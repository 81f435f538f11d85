"""MedQA (USMLE): one JSON object a line with ``question``, ``options`` by letter, ``answer`` and ``answer_idx``."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from residency.platform.records import AnswerKind, Family, Item
from residency.synthesis.benchmarks.gold_answers import labels
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import Record, UnusableRow
from residency.synthesis.benchmarks.text_rows import (
    build_all,
    check_options,
    json_rows,
    parse,
    variant_files,
)

PATTERNS = {
    variant: (f"phrases_no_exclude_{variant}.jsonl", f"{variant}.jsonl") for variant in ("test", "dev", "train")
}


class ExamQuestion(BaseModel):
    """One line, in the form with four options (``phrases_no_exclude_*.jsonl``) or the original one with five."""

    question: str
    options: dict[str, str]
    answer: str
    answer_idx: str
    meta_info: str | None = None


def read_med_qa(source: Path, variant: str) -> Iterator[Row | Refused]:
    """Every line of the variant's file. The set has no ids, so rows are named by what they ask."""
    for path in variant_files(source, PATTERNS, variant):
        yield from build_all(json_rows(path), to_row)


def to_row(record: Record) -> Row:
    """The row: letters without a gap, and ``answer`` must be the option that ``answer_idx`` names, or UnusableRow."""
    asked = parse(ExamQuestion, record)
    letters = sorted(asked.options)
    options = tuple(asked.options[letter] for letter in letters)
    if letters != [chr(ord("A") + i) for i in range(len(letters))]:
        raise UnusableRow("the options are not lettered A, B, C, …", ", ".join(letters))
    if asked.answer_idx not in asked.options:
        raise UnusableRow("answer_idx names no option", repr(asked.answer_idx))
    answer = asked.options[asked.answer_idx]
    if answer.strip() != asked.answer.strip():
        raise UnusableRow("answer is not the option that answer_idx names", f"{asked.answer!r}, {asked.answer_idx!r}")
    check_options(options)
    return Row(
        key=Item.make_content_key(asked.question, options, ()),
        where=record.where,
        question=asked.question,
        options=options,
        answer=answer,
        answer_kind=AnswerKind.CHOICE,
        metadata=labels(language="en", question_type=asked.meta_info),
    )


MED_QA = Benchmark(
    name="med-qa",
    title="MedQA (USMLE)",
    licence="CC BY 4.0 (the hub's copy), MIT (the original repository)",
    family=Family.TEXTUAL_REASONING,
    published={"test": 1273, "dev": 1272, "train": 10178},
    source="arXiv:2009.13081 (Jin et al. 2020); hub GBaker/MedQA-USMLE-4-options, GitHub jind11/MedQA",
    read=read_med_qa,
    note="Published scores are mostly on four options; the original files have five, which is harder (chance 20 %, not"
    " 25 %): say which. The hub's copy has no dev split. question_type is the exam's step.",
    files=" or ".join(PATTERNS["test"]) + " (dev and train likewise)",
)
BENCHMARKS = (MED_QA,)
