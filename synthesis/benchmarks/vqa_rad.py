"""VQA-RAD: questions on radiology images, as Hugging Face Parquet or as the authors' JSON with its image folder."""

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
    find_parquet,
    image_bytes,
    image_file,
    json_records,
    parquet_records,
)

JSON_NAMES = ("VQA_RAD Dataset Public.json", "*.json")
JSON_FIELDS = ("qid", "phrase_type", "image_name", "question", "answer", "answer_type")
IMAGE_FOLDERS = ("", "VQA_RAD Image Folder", "images")
TEST_PHRASES = "test_"  # test_freeform and test_para are the 451; freeform and para train


def read_vqa_rad(source: Path, variant: str) -> Iterator[Row | Refused]:
    """Parquet where the source has it, else the JSON (whose ``phrase_type`` tells test from train)."""
    shards = [] if source.suffix == ".json" else find_parquet(source, variant)
    if shards:
        yield from build_rows(
            parquet_records(shards, ("image", "question", "answer")), partial(parquet_row, variant=variant)
        )
        return
    path = find_file(source, JSON_NAMES)
    wanted = (record for record in json_records(path, JSON_FIELDS) if is_of(record, variant))
    yield from build_rows(wanted, partial(json_row, folders=[path.parent / name for name in IMAGE_FOLDERS]))


def is_of(record: Record, variant: str) -> bool:
    return record.optional("phrase_type").casefold().startswith(TEST_PHRASES) == (variant == "test")


def parquet_row(record: Record, variant: str) -> Row:
    answer, kind = free_answer(record.text("answer"))
    return Row(
        key=f"{variant}:{record.number}",
        where=record.where,
        question=record.text("question"),
        answer=answer,
        answer_kind=kind,
        images=(image_bytes(record.fields["image"]),),
        metadata=labels(language="en", gold=record.text("answer")),
    )


def json_row(record: Record, folders: list[Path]) -> Row:
    answer_type = record.text("answer_type").upper()  # the file has "CLOSED " with a blank, too
    if answer_type not in ("OPEN", "CLOSED"):
        raise UnusableRow("its answer_type is neither OPEN nor CLOSED", repr(answer_type))
    answer, kind = free_answer(record.text("answer"))  # some answers are JSON numbers
    return Row(
        key=f"qid:{record.text('qid')}",
        where=record.where,
        question=record.text("question"),
        answer=answer,
        answer_kind=kind,
        images=(image_file(folders, record.text("image_name")),),
        metadata=labels(
            language="en",
            gold=record.text("answer"),
            answer_type=answer_type,
            organ=record.optional("image_organ"),
            question_type=record.optional("question_type"),
            phrase_type=record.optional("phrase_type"),
        ),
    )


VQA_RAD = Benchmark(
    name="vqa-rad",
    title="VQA-RAD",
    licence="CC0 1.0",
    family=Family.MEDICAL_MULTIMODAL,
    published={"test": 451, "train": 1793},
    source="doi:10.1038/sdata.2018.251 (Lau et al. 2018); hub flaviagiammarino/vqa-rad",
    read=read_vqa_rad,
    files="data/test-*.parquet, or `VQA_RAD Dataset Public.json` beside `VQA_RAD Image Folder/`",
    note="Train and test share images, so a score is not on unseen images; score blank and shuffled images beside it."
    " The hub's train split has 1,793 rows; the original JSON holds 1,797 that are not test. Item ids of the two forms"
    " differ (row number, qid): runs on the two cannot be paired.",
)
