"""PMC-VQA: four choices on figures of PubMed Central papers; CSV beside the image folder."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family
from residency.synthesis.benchmarks.gold_answers import (
    labels,
    option_of_letter,
    option_of_text,
    without_label,
)
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import (
    Record,
    UnusableRow,
    build_rows,
    csv_records,
    find_file,
    image_file,
)

FILES = {"test_2": "test_2.csv", "test_clean": "test_clean.csv", "train_2": "train_2.csv", "train": "train.csv"}
CHOICES = ("Choice A", "Choice B", "Choice C", "Choice D")
FIELDS = ("Figure_path", "Question", *CHOICES, "Answer")
# images.zip belongs to version 1 (train, test_clean), images_2.zip to version 2
IMAGE_FOLDERS = {
    1: ("images", "images/images", "figures", ""),
    2: ("images_2", "images_2/images_2", "figures", "images", ""),
}


def read_pmc_vqa(source: Path, variant: str) -> Iterator[Row | Refused]:
    """The rows of the variant's CSV; pictures are looked up in ``images_2``, ``images`` or ``figures`` beside it."""
    path = find_file(source, (FILES[variant],))
    if path.name != FILES[variant]:
        raise DataError(
            f"{path} is not the file of the variant {variant}", FILES[variant], "say --variant, or name it so"
        )
    folders = [path.parent / name for name in IMAGE_FOLDERS[2 if variant.endswith("_2") else 1]]
    yield from build_rows(csv_records(path, FIELDS), partial(pmc_row, variant=variant, folders=folders))


def pmc_row(record: Record, variant: str, folders: list[Path]) -> Row:
    options = tuple(without_label(record.optional(name), position) for position, name in enumerate(CHOICES))
    if not all(options):
        raise UnusableRow("one of its choices is empty", str(list(options)))
    return Row(
        key=f"{variant}:{record.number}",
        where=record.where,
        question=record.text("Question"),
        options=options,
        answer=gold_option(record, options),
        answer_kind=AnswerKind.CHOICE,
        images=(image_file(folders, record.text("Figure_path")),),
        metadata=labels(language="en", caption=record.optional("Caption")),
    )


def gold_option(record: Record, options: tuple[str, ...]) -> str:
    """Version 1 has the text in ``Answer`` and the letter in ``Answer_label``, version 2 the letter in ``Answer``."""
    answer = record.text("Answer")
    letter = record.optional("Answer_label") or (answer if len(answer) == 1 else "")
    return option_of_letter(letter, options) if letter else option_of_text(answer, options)


PMC_VQA = Benchmark(
    name="pmc-vqa",
    title="PMC-VQA",
    licence="CC BY-SA (the set); the figures under the open licences of their PubMed Central papers",
    family=Family.MEDICAL_MULTIMODAL,
    published={"test_2": 33430, "test_clean": 2000, "train_2": None, "train": None},
    source="arXiv:2305.10415 (Zhang et al. 2023); hub xmcmic/PMC-VQA",
    read=read_pmc_vqa,
    files="test_2.csv with the unpacked images_2/, or test_clean.csv with images/",
    note="Always answering C scores 37.8 % on test_2: quote majority and chance beside a score. test_2 and test_clean"
    " are different sets with different images, and papers do not always say which they used.",
)
