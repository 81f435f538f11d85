"""SLAKE: questions in English and Chinese on CT, MRI and X-ray images; one JSON file a split beside ``imgs/``."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from residency.platform.records import Family
from residency.synthesis.benchmarks.gold_answers import free_answer, labels
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import (
    Record,
    UnusableRow,
    build_rows,
    find_file,
    image_file,
    json_records,
)

FIELDS = ("img_name", "question", "answer", "answer_type", "q_lang", "qid")


def read_slake(source: Path, variant: str) -> Iterator[Row | Refused]:
    """The rows of ``test.json`` or ``train.json``; ``test-en`` and ``test-zh`` are those of one language."""
    split, _, language = variant.partition("-")
    path = find_file(source, (f"{split}.json",))
    records = json_records(path, FIELDS)
    wanted = (record for record in records if not language or record.optional("q_lang") == language)
    yield from build_rows(wanted, partial(slake_row, folders=[path.parent / "imgs", path.parent]))


def slake_row(record: Record, folders: list[Path]) -> Row:
    answer_type, language = record.text("answer_type").upper(), record.text("q_lang")
    if answer_type not in ("OPEN", "CLOSED"):
        raise UnusableRow("its answer_type is neither OPEN nor CLOSED", repr(answer_type))
    if language not in ("en", "zh"):
        raise UnusableRow("its q_lang is neither en nor zh", repr(language))
    answer, kind = free_answer(record.text("answer"))  # the gold is `Yes` with a capital, or 是
    return Row(
        key=f"qid:{record.text('qid')}",  # the same in all variants
        where=record.where,
        question=record.text("question"),
        answer=answer,
        answer_kind=kind,
        images=(image_file(folders, record.text("img_name")),),
        metadata=labels(
            language=language,
            gold=record.text("answer"),
            answer_type=answer_type,
            modality=record.optional("modality"),
            organ=record.optional("location"),
            question_type=record.optional("content_type"),
            base_type=record.optional("base_type"),
        ),
    )


SLAKE = Benchmark(
    name="slake",
    title="SLAKE",
    licence="CC BY 4.0",
    family=Family.MEDICAL_MULTIMODAL,
    published={"test": 2094, "test-en": 1061, "test-zh": 1033, "train": 9835},
    source="arXiv:2102.09542 (Liu et al. 2021); hub BoKelvin/SLAKE",
    read=read_slake,
    files="test.json (or train.json) and the unpacked imgs/",
    note="English and Chinese together unless the variant says one; papers often report test-en alone. Closed questions"
    " whose gold is not yes or no (left or right, CT or MRI) are short answers: their choices stand in the question.",
)
