"""MedXpertQA-MM: expert-level questions of five choices with one to six images; JSONL beside ``images/``."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family
from residency.platform.verifiers.normal_form import normal_form
from residency.synthesis.benchmarks.gold_answers import LETTERS, labels, option_of_letter
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import (
    Record,
    UnusableRow,
    build_rows,
    image_file,
    jsonl_records,
)

FIELDS = ("id", "question", "options", "label", "images")
TRAILER = "Answer Choices:"


def read_med_xpert_qa(source: Path, variant: str) -> Iterator[Row | Refused]:
    """The rows of ``MM/test.jsonl`` (the folder ``Text`` of the same hub repository is another set)."""
    path = mm_file(source, variant)
    folders = [root / "images" for root in (path.parent, path.parent.parent)]
    yield from build_rows(jsonl_records(path, FIELDS), partial(expert_row, folders=folders))


def mm_file(source: Path, variant: str) -> Path:
    """``MM/<variant>.jsonl`` below the source, or ``<variant>.jsonl`` in it, or the file that was given."""
    candidates = [source, source / "MM" / f"{variant}.jsonl", source / f"{variant}.jsonl"]
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(f"{source} holds no MM/{variant}.jsonl", MED_XPERT_QA.files)


def expert_row(record: Record, folders: list[Path]) -> Row:
    options = read_options(record.fields.get("options"))
    names = record.fields.get("images")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UnusableRow("its images are not a list of file names", repr(names)[:80])
    return Row(
        key=record.text("id"),
        where=record.where,
        question=without_choices(record.text("question"), options),
        options=options,
        answer=option_of_letter(record.text("label"), options),
        answer_kind=AnswerKind.CHOICE,
        images=tuple(image_file(folders, name) for name in names),
        metadata=labels(
            language="en",
            task=record.optional("medical_task"),
            organ=record.optional("body_system"),
            question_type=record.optional("question_type"),
        ),
    )


def read_options(published: Any) -> tuple[str, ...]:
    """The texts in the order of their letters, from ``{"A": text}`` or ``[{"letter": "A", "content": text}]``."""
    if isinstance(published, list):
        if not all(isinstance(option, dict) and {"letter", "content"} <= set(option) for option in published):
            raise UnusableRow("its options are not letters with texts", repr(published)[:80])
        published = {option["letter"]: option["content"] for option in published}
    if not isinstance(published, dict) or sorted(published) != list(LETTERS[: len(published)]):
        raise UnusableRow("its options are not letters with texts", repr(published)[:80])
    return tuple(str(published[letter]).strip() for letter in sorted(published))


def without_choices(question: str, options: tuple[str, ...]) -> str:
    """The question without the list of its choices at the end, where that list repeats all of them."""
    stem, found, trailer = question.rpartition(TRAILER)
    said = normal_form(trailer)
    repeats = found and stem.strip() and all(normal_form(option) in said for option in options)
    return stem.strip() if repeats else question


MED_XPERT_QA = Benchmark(
    name="med-xpert-qa",
    title="MedXpertQA-MM",
    licence="MIT",
    family=Family.MEDICAL_MULTIMODAL,
    published={"test": 2000, "dev": 5},
    source="arXiv:2501.18362 (Zuo et al. 2025); hub TsinghuaC3I/MedXpertQA",
    read=read_med_xpert_qa,
    files="MM/test.jsonl and the unpacked images/",
    note="Published questions end with their choices written out; that list is cut off here, as prompts add the options"
    " themselves. 1,446 rows ask for reasoning, 554 for understanding (question_type): quote both. One to six images.",
)
