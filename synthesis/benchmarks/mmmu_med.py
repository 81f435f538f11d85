"""MMMU-Med: the five Health & Medicine subjects of MMMU, as Hugging Face Parquet, one folder a subject."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family
from residency.synthesis.benchmarks.gold_answers import free_answer, labels, option_of_letter
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import (
    Record,
    UnusableRow,
    build_rows,
    find_parquet,
    image_bytes,
    parquet_records,
)

SUBJECTS = (
    "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy", "Public_Health",
)  # fmt: skip
NUM_IMAGES = 7
FIELDS = ("id", "question", "options", "answer", "question_type", "image_1")
MARKER = re.compile(r"<image (\d)>")
NO_GOLD = "?"  # the test split hides its answers


def read_mmmu_med(source: Path, variant: str) -> Iterator[Row | Refused]:
    """The rows of all five subjects; a missing subject is no format fault, the check of n tells it."""
    shards = [shard for subject in SUBJECTS for shard in find_parquet(source, variant, subject)]
    if not shards:
        raise DataError(f"{source} holds no {SUBJECTS[0]}/{variant}-*.parquet or the like", MMMU_MED.files)
    for shard in shards:
        subject = shard.parent.name  # the shards of all subjects have the same name
        records = (replace(each, where=f"{subject}/{each.where}") for each in parquet_records([shard], FIELDS))
        yield from build_rows(records, partial(mmmu_row, subject=subject))


def mmmu_row(record: Record, subject: str) -> Row:
    if record.text("answer") == NO_GOLD:
        raise UnusableRow("its gold answer is not published")
    options = read_list(record.optional("options"))
    question, question_type = record.text("question"), record.text("question_type")
    synonyms: list[str] = []
    match question_type:
        case "multiple-choice":
            answer, kind = option_of_letter(record.text("answer"), options), AnswerKind.CHOICE
        case "open":
            answers = read_list(record.text("answer")) if record.text("answer").startswith("[") else ()
            first, *synonyms = answers or (record.text("answer"),)
            answer, kind = free_answer(first)
            options = ()
        case _:
            raise UnusableRow("its question_type is neither multiple-choice nor open", repr(question_type))
    return Row(
        key=record.text("id"),
        where=record.where,
        question=question,
        options=options,
        answer=answer,
        answer_kind=kind,
        images=images_of(record, f"{question} {' '.join(options)}"),
        metadata=labels(
            language="en",
            specialty=subject.replace("_", " "),
            question_type=question_type,
            modality="; ".join(read_list(record.optional("img_type"))),
            subfield=record.optional("subfield"),
            difficulty=record.optional("topic_difficulty"),
            synonyms=synonyms,
        ),
    )


def read_list(text: str) -> tuple[str, ...]:
    """The texts of a list that is written as a string, ``"['a', 'b']"``; raises UnusableRow for anything else."""
    if not text:
        return ()
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UnusableRow("a field is not a list written as a string", text[:80]) from error
    if not isinstance(values, list) or not all(isinstance(value, str | int | float) for value in values):
        raise UnusableRow("a field is not a list written as a string", text[:80])
    return tuple(str(value).strip() for value in values)


def images_of(record: Record, text: str) -> tuple[bytes, ...]:
    """``image_1`` to ``image_7`` as far as the row has them; every ``<image k>`` in the text must be the k-th."""
    cells = [record.fields.get(f"image_{k}") for k in range(1, NUM_IMAGES + 1)]
    present = [cell for cell in cells if cell is not None]
    if cells[: len(present)] != present:
        raise UnusableRow("its images have a gap", f"{len(present)} images, not the first ones")
    named = {int(k) for k in MARKER.findall(text)}
    if any(not 1 <= k <= len(present) for k in named):
        raise UnusableRow("it names an image that it does not have", f"<image {max(named)}> of {len(present)}")
    return tuple(image_bytes(cell) for cell in present)


MMMU_MED = Benchmark(
    name="mmmu-med",
    title="MMMU Health & Medicine",
    licence="Apache 2.0",
    family=Family.MEDICAL_MULTIMODAL,
    published={"validation": 150, "test": 1752},
    source="arXiv:2311.16502 (Yue et al. 2024); hub MMMU/MMMU",
    read=read_mmmu_med,
    files="<subject>/validation-*.parquet of " + ", ".join(SUBJECTS),
    note="The test split is published with `?` for its answers: only rows with an answer are taken. 150 validation"
    " questions carry an interval of about ±8 points. `<image k>` in question or options is the k-th image.",
)
