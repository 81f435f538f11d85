"""PMC-VQA, OmniMedVQA, MMMU-Med and MedXpertQA-MM: published forms, their traps, and broken files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import DataError
from residency.platform.records import Item
from residency.platform.verifiers.self_check import self_check
from residency.synthesis.benchmarks.importing import Benchmark, ImportReport, import_benchmark
from residency.synthesis.benchmarks.med_xpert_qa import MED_XPERT_QA
from residency.synthesis.benchmarks.mmmu_med import MMMU_MED
from residency.synthesis.benchmarks.omni_med_vqa import OMNI_MED_VQA
from residency.synthesis.benchmarks.pmc_vqa import PMC_VQA

Pictures = Callable[..., bytes]
PutPictures = Callable[..., None]
Writer = Callable[[Path, Any], Path]
MODALITIES = ("CT", "MRI", "PET", "Ultrasound")


def taken(benchmark: Benchmark, source: Path, out: Path, variant: str) -> tuple[ImportReport, list[Item]]:
    report = import_benchmark(benchmark, source, variant, out)
    items = list(read_dataset(out).items)
    assert self_check(items) == []
    return report, items


def places(report: ImportReport) -> dict[str, str]:
    return {reason: first[0].where for reason, first in report.first_refused.items()}


def write_csv(path: Path, header: list[str], *rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


HEADER_2 = [
    "index",
    "Figure_path",
    "Caption",
    "Question",
    "Choice A",
    "Choice B",
    "Choice C",
    "Choice D",
    "Answer",
    "split",
]
HEADER_1 = ["Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D", "Answer_label"]


def test_pmc_vqa_version_2(tmp_path: Path, put_pictures: PutPictures) -> None:
    options = [" A: CT ", "B: MRI", "C: PET", "D: Ultrasound"]
    write_csv(
        tmp_path / "in/test_2.csv", HEADER_2,
        ["0", "PMC1_F1.jpg", "A, quoted\ncaption", " Which modality? ", *options, "C", "test"],
        ["1", "PMC1_F1.jpg", "", "Which one?", *MODALITIES, "A", "test"],
        ["2", "PMC1_F1.jpg", "", "Which one?", *MODALITIES, "E", "test"],
        ["3", "absent.jpg", "", "Which one?", *MODALITIES, "A", "test"],
        ["4", "PMC1_F1.jpg", "", "Which one?", "CT", "", "PET", "US", "A", "test"],
        ["5", "PMC1_F1.jpg"],
    )  # fmt: skip
    put_pictures(tmp_path / "in/images_2", "PMC1_F1.jpg")
    report, items = taken(PMC_VQA, tmp_path / "in", tmp_path / "out", "test_2")
    assert [(item.options, item.answer) for item in items] == [(MODALITIES, "PET"), (MODALITIES, "CT")]
    assert items[0].question == "Which modality?"
    assert items[0].metadata["caption"] == "A, quoted\ncaption"
    assert report.published == 33430
    assert places(report) == {
        "its answer is no option's letter": "test_2.csv row 3",
        "its image file is missing": "test_2.csv row 4",
        "one of its choices is empty": "test_2.csv row 5",
    }
    assert report.refused["one of its choices is empty"] == 2


def test_pmc_vqa_version_1_has_text_and_letter(tmp_path: Path, put_pictures: PutPictures) -> None:
    labelled = [f"{letter}:{option} " for letter, option in zip("ABCD", MODALITIES, strict=True)]
    row = ["PMC1_F1.jpg", "Which?", " MRI ", *labelled]
    source = write_csv(tmp_path / "in/test_clean.csv", HEADER_1, [*row, "B"], [*row, ""])
    put_pictures(tmp_path / "in/images", "PMC1_F1.jpg")
    _, items = taken(PMC_VQA, source, tmp_path / "out", "test_clean")
    assert [item.answer for item in items] == ["MRI", "MRI"]
    with pytest.raises(DataError, match="not the file of the variant test_2"):
        import_benchmark(PMC_VQA, source, "test_2", tmp_path / "out2")
    write_csv(source, ["image", "question"], ["a.jpg", "?"])
    with pytest.raises(DataError, match="test_clean.csv has no Figure_path, Question, Choice A"):
        import_benchmark(PMC_VQA, source, "test_clean", tmp_path / "out2")


def omni_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "dataset": "ACRIMA", "question_id": f"ACRIMA_{number:04}", "question_type": "Modality Recognition",
        "question": "Which imaging technique is this?", "gt_answer": "Fundus photography",
        "image_path": "Images/ACRIMA/Im1.png", "option_A": "Fundus photography", "option_B": "PET scan",
        "option_C": "Mammogram", "option_D": "Ultrasound", "modality_type": "Fundus Photography",
    } | changes  # fmt: skip


def test_omni_med_vqa(tmp_path: Path, write_json: Writer, put_pictures: PutPictures) -> None:
    two = omni_row(1, gt_answer="no", option_A="No.", option_B="Yes.", question="Is it glaucoma?")
    del two["option_C"], two["option_D"]
    three = omni_row(2, option_D="", question="Which of three?")
    old = omni_row(3, modality=omni_row(0)["modality_type"], question="Which?")
    del old["modality_type"]
    broken = [
        omni_row(4, gt_answer="X-ray"), omni_row(5, option_B=None), omni_row(6, image_path="/etc/passwd"),
        omni_row(7, image_path="Images/ACRIMA/absent.png"),
    ]  # fmt: skip
    folder = tmp_path / "in/OmniMedVQA/QA_information"
    write_json(folder / "Open-access/ACRIMA.json", [omni_row(0), two, three, *broken])
    write_json(folder / "Open-access/Chest CT Scan.json", [old])
    write_json(folder / "Restricted-access/Other.json", [omni_row(8)])
    put_pictures(tmp_path / "in/OmniMedVQA", "Images/ACRIMA/Im1.png")
    report, items = taken(OMNI_MED_VQA, tmp_path / "in", tmp_path / "out", "test")
    assert [(len(item.options), item.answer) for item in items] == [
        (4, "Fundus photography"), (2, "No."), (3, "Fundus photography"), (4, "Fundus photography"),
    ]  # fmt: skip
    assert {item.metadata["modality"] for item in items} == {"Fundus Photography"}
    assert items[0].metadata["row"] == "ACRIMA:ACRIMA_0000"
    assert len({item.cluster for item in items}) == 1
    assert places(report) == {
        "its answer is none of its options": "ACRIMA.json row 4",
        "its options have a gap, or are fewer than two": "ACRIMA.json row 5",
        "its image name leads out of the image folder": "ACRIMA.json row 6",
        "its image file is missing": "ACRIMA.json row 7",
    }
    (folder / "Open-access/ACRIMA.json").write_text("{}")
    with pytest.raises(DataError, match="ACRIMA.json is not a list of JSON objects"):
        import_benchmark(OMNI_MED_VQA, tmp_path / "in", "test", tmp_path / "out2")
    with pytest.raises(DataError, match="holds no QA_information/Open-access"):
        import_benchmark(OMNI_MED_VQA, tmp_path / "out", "test", tmp_path / "out2")


def mmmu_row(picture: Pictures, number: int, images: int = 1, **changes: Any) -> dict[str, Any]:
    cells = {
        f"image_{k}": {"bytes": picture(10 * number + k), "path": "x.png"} if k <= images else None for k in range(1, 8)
    }
    return cells | {
        "id": f"validation_Pharmacy_{number}", "question": f"<image 1> What is shown? {number}",
        "options": "['aspirin', \"Wilson's drug\", 'none']", "answer": "B", "question_type": "multiple-choice",
        "img_type": "['Chemical Structures', 'Tables']", "subfield": "Pharmacology", "topic_difficulty": "Easy",
    } | changes  # fmt: skip


def test_mmmu_med(tmp_path: Path, picture: Pictures, write_parquet: Writer) -> None:
    rows = [
        mmmu_row(picture, 1),
        mmmu_row(picture, 2, images=3, options="['<image 2>', '<image 3>']", answer="A"),
        mmmu_row(picture, 3, options="[]", answer="['12', 'twelve']", question_type="open"),
    ]
    write_parquet(tmp_path / "in/Pharmacy/validation-00000-of-00001.parquet", rows)
    clinical = [mmmu_row(picture, 4, id="validation_Clinical_Medicine_1")]
    write_parquet(tmp_path / "in/Clinical_Medicine/validation-00000-of-00001.parquet", clinical)
    write_parquet(tmp_path / "in/Art/validation-00000-of-00001.parquet", [mmmu_row(picture, 5, id="validation_Art_1")])
    report, items = taken(MMMU_MED, tmp_path / "in", tmp_path / "out", "validation")
    assert [item.metadata["specialty"] for item in items] == ["Clinical Medicine", *["Pharmacy"] * 3]
    assert [item.answer for item in items] == ["Wilson's drug", "Wilson's drug", "<image 2>", "12"]
    assert items[3].answer_kind == "short"
    assert items[3].metadata["synonyms"] == ["twelve"]
    assert items[1].metadata["modality"] == "Chemical Structures; Tables"
    media = read_dataset(tmp_path / "out").media
    assert [media.open_image(key).getpixel((0, 0))[0] for key in items[2].media] == [21, 22, 23]  # type: ignore[index]
    assert (report.published, report.difference) == (150, -146)


def test_broken_mmmu_med_and_hidden_answers(tmp_path: Path, picture: Pictures, write_parquet: Writer) -> None:
    gap = mmmu_row(picture, 5, images=3)
    gap["image_2"] = None
    rows = [
        mmmu_row(picture, 1), mmmu_row(picture, 2, answer="?"), mmmu_row(picture, 3, options="aspirin or none"),
        mmmu_row(picture, 4, question="<image 2> What?"), gap, mmmu_row(picture, 6, options="[print('x')]"),
        mmmu_row(picture, 7, question_type="essay"), mmmu_row(picture, 8, answer="D"),
    ]  # fmt: skip
    shard = write_parquet(tmp_path / "in/Pharmacy/test-00000-of-00001.parquet", rows)
    report, items = taken(MMMU_MED, tmp_path / "in", tmp_path / "out", "test")
    assert len(items) == 1
    place = "Pharmacy/test-00000-of-00001.parquet row "
    assert places(report) == {
        "its gold answer is not published": place + "2",
        "a field is not a list written as a string": place + "3",
        "it names an image that it does not have": place + "4",
        "its images have a gap": place + "5",
        "its question_type is neither multiple-choice nor open": place + "7",
        "its answer is no option's letter": place + "8",
    }
    write_parquet(shard, [mmmu_row(picture, 1, answer="?")])
    with pytest.raises(DataError, match="refused 1: its gold answer is not published"):
        import_benchmark(MMMU_MED, tmp_path / "in", "test", tmp_path / "out2")
    with pytest.raises(DataError, match="Basic_Medical_Science/validation"):
        import_benchmark(MMMU_MED, tmp_path / "in", "validation", tmp_path / "out2")


def expert_row(number: int, **changes: Any) -> dict[str, Any]:
    texts = dict(zip("ABCDE", ("Gout", "Sepsis", "Lupus", "Rickets", "Scurvy"), strict=True))
    listed = " ".join(f"({letter}) {text}" for letter, text in texts.items())
    return {
        "id": f"MM-{number}", "question": f"Which disease, {number}?\nAnswer Choices: {listed}", "options": texts,
        "label": "C", "images": ["MM-1-a.jpeg"], "medical_task": "Diagnosis", "body_system": "Skeletal",
        "question_type": "Reasoning",
    } | changes  # fmt: skip


def test_med_xpert_qa(tmp_path: Path, put_pictures: PutPictures) -> None:
    listed = [{"letter": letter, "content": text} for letter, text in expert_row(0)["options"].items()]
    rows = [
        expert_row(1),
        expert_row(2, options=listed, images=["MM-1-a.jpeg", "MM-2-b.png"]),
        expert_row(3, question="Answer Choices: which of these tests fits?"),
        expert_row(4, label="F"), expert_row(5, images=[]), expert_row(6, images=["absent.png"]),
        expert_row(7, options={"A": "Gout", "C": "Lupus"}), expert_row(8, label=None),
    ]  # fmt: skip
    path = tmp_path / "in/MM/test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    (tmp_path / "in/Text").mkdir()
    (tmp_path / "in/Text/test.jsonl").write_text("{}\n")
    put_pictures(tmp_path / "in/images", "MM-1-a.jpeg", "MM-2-b.png")
    report, items = taken(MED_XPERT_QA, tmp_path / "in", tmp_path / "out", "test")
    assert [item.question for item in items] == [
        "Which disease, 1?", "Which disease, 2?", "Answer Choices: which of these tests fits?",
    ]  # fmt: skip
    assert {item.answer for item in items} == {"Lupus"}
    assert [len(item.media) for item in items] == [1, 2, 1]
    assert items[0].metadata["organ"] == "Skeletal"
    assert items[0].metadata["task"] == "Diagnosis"
    assert places(report) == {
        "its answer is no option's letter": "test.jsonl line 4",
        "its images are not a list of file names": "test.jsonl line 5",
        "its image file is missing": "test.jsonl line 6",
        "its options are not letters with texts": "test.jsonl line 7",
        "no label": "test.jsonl line 8",
    }
    path.write_text(json.dumps(rows[0]) + "\n{broken\n")
    with pytest.raises(DataError, match="line 2 of .*test.jsonl is not JSON"):
        import_benchmark(MED_XPERT_QA, tmp_path / "in", "test", tmp_path / "out2")
