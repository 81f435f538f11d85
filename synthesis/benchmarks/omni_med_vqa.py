"""OmniMedVQA: two to four choices over many public image sets; one JSON file a source set beside ``Images/``."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family
from residency.synthesis.benchmarks.gold_answers import labels, option_of_text
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import Record, UnusableRow, build_rows, image_file, json_records

FOLDER = "Open-access"
FIELDS = ("question", "gt_answer", "image_path", "option_A", "option_B")
OPTIONS = ("option_A", "option_B", "option_C", "option_D")


def read_omni_med_vqa(source: Path, variant: str) -> Iterator[Row | Refused]:
    """The rows of every JSON of the open-access folder, in the order of their names."""
    paths = sorted(path for path in source.rglob("*.json") if path.parent.name == FOLDER)
    if not paths:
        raise DataError(f"{source} holds no QA_information/{FOLDER}/*.json", OMNI_MED_VQA.files)
    for path in paths:
        root = path.parent.parent.parent  # image_path begins with Images/
        yield from build_rows(json_records(path, FIELDS), partial(omni_row, file=path.stem, folders=[root]))


def omni_row(record: Record, file: str, folders: list[Path]) -> Row:
    texts = [record.optional(name) for name in OPTIONS]
    options = tuple(text for text in texts if text)  # C and D are absent where there are two or three
    if texts[: len(options)] != list(options) or len(options) < 2:
        raise UnusableRow("its options have a gap, or are fewer than two", str(texts))
    return Row(
        key=f"{file}:{record.optional('question_id') or record.number}",
        where=record.where,
        question=record.text("question"),
        options=options,
        answer=option_of_text(record.text("gt_answer"), options),
        answer_kind=AnswerKind.CHOICE,
        images=(image_file(folders, record.text("image_path")),),
        metadata=labels(
            language="en",
            modality=record.optional("modality_type") or record.optional("modality"),  # one file says `modality`
            question_type=record.optional("question_type"),
            dataset=record.optional("dataset"),
        ),
    )


OMNI_MED_VQA = Benchmark(
    name="omni-med-vqa",
    title="OmniMedVQA (open access)",
    licence="that of each source set (the hub names none for the whole)",
    family=Family.MEDICAL_MULTIMODAL,
    published={"test": 88996},
    source="arXiv:2402.09181 (Hu et al. 2024); hub foreverbeliever/OmniMedVQA",
    read=read_omni_med_vqa,
    files="the unpacked OmniMedVQA/ with QA_information/Open-access/*.json and Images/",
    note="Only the open-access part (42 source sets of 73): a score is not on all 127,995 questions. Options are two to"
    " four, so chance differs by question; many images are from sets that models are trained on.",
)
