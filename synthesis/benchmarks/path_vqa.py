"""PathVQA: questions on pathology images, as Hugging Face Parquet."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from residency.platform.errors import DataError
from residency.platform.records import Family
from residency.synthesis.benchmarks.gold_answers import free_answer, labels
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import (
    Record,
    build_rows,
    find_parquet,
    image_bytes,
    parquet_records,
)


def read_path_vqa(source: Path, variant: str) -> Iterator[Row | Refused]:
    """The rows of the variant's shards."""
    shards = find_parquet(source, variant)
    if not shards:
        raise DataError(f"{source} holds no {variant}-*.parquet", PATH_VQA.files)
    yield from build_rows(parquet_records(shards, ("image", "question", "answer")), partial(path_row, variant=variant))


def path_row(record: Record, variant: str) -> Row:
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


PATH_VQA = Benchmark(
    name="path-vqa",
    title="PathVQA",
    licence="MIT (the hub's card; the images are from textbooks and the PEIR library, whose owners keep their rights)",
    family=Family.MEDICAL_MULTIMODAL,
    published={"test": 6719, "train": 19654},
    source="arXiv:2003.10286 (He et al. 2020); hub flaviagiammarino/path-vqa",
    read=read_path_vqa,
    files="data/test-*.parquet",
    note="Questions were made from captions by rules: their English is rough, and open answers are caption fragments,"
    " so exact match is hard to earn. The row number is the key: rows are in the order of the shards.",
)
