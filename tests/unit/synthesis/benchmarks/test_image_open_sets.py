"""VQA-RAD, SLAKE and PathVQA: both published forms, their traps, and broken files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Item, Split
from residency.platform.verifiers.self_check import self_check
from residency.synthesis.benchmarks.importing import Benchmark, ImportReport, import_benchmark
from residency.synthesis.benchmarks.path_vqa import PATH_VQA
from residency.synthesis.benchmarks.slake import SLAKE
from residency.synthesis.benchmarks.vqa_rad import VQA_RAD

Pictures = Callable[..., bytes]
Writer = Callable[[Path, Any], Path]


def taken(benchmark: Benchmark, source: Path, out: Path, variant: str = "test") -> tuple[ImportReport, list[Item]]:
    report = import_benchmark(benchmark, source, variant, out)
    items = list(read_dataset(out).items)
    assert self_check(items) == []
    return report, items


def hub_rows(picture: Pictures, *answers: str | None) -> list[dict[str, Any]]:
    return [
        {"image": {"bytes": picture(n), "path": f"{n}.jpg"}, "question": f"what is it? {n}", "answer": answer}
        for n, answer in enumerate(answers)
    ]


def rad_rows() -> list[dict[str, Any]]:
    common = {"image_organ": "CHEST", "question_type": "PRES", "image_name": "synpic1.jpg", "question": "is it there?"}
    return [
        common | {"qid": "0", "phrase_type": "test_freeform", "answer": "Yes", "answer_type": "CLOSED "},
        common
        | {"qid": "1", "phrase_type": "test_para", "answer": 2, "answer_type": "OPEN", "image_name": "synpic2.jpg"},
        common | {"qid": "2", "phrase_type": "freeform", "answer": "no", "answer_type": "CLOSED"},
        common
        | {"qid": "3", "phrase_type": "para", "answer": "in the right lower lobe of the lung", "answer_type": "OPEN"},
    ]


def slake_row(qid: int, **changes: Any) -> dict[str, Any]:
    return {
        "img_id": 1, "img_name": "xmlab1/source.jpg", "question": "Is the lung healthy?", "answer": "No",
        "q_lang": "en", "location": "Lung", "modality": "X-Ray", "answer_type": "CLOSED", "base_type": "vqa",
        "content_type": "Abnormality", "triple": ["vhead", "_", "_"], "qid": qid,
    } | changes  # fmt: skip


def test_vqa_rad_from_the_hub(tmp_path: Path, picture: Pictures, write_parquet: Writer) -> None:
    rows = hub_rows(picture, "yes", "axial", "a mass in the left upper lobe of the lung")
    write_parquet(tmp_path / "in/data/test-00000-of-00002-abc.parquet", rows[:2])
    write_parquet(tmp_path / "in/data/test-00001-of-00002-def.parquet", rows[2:])
    write_parquet(tmp_path / "in/data/train-00000-of-00001.parquet", hub_rows(picture, "no"))
    report, items = taken(VQA_RAD, tmp_path / "in", tmp_path / "out")
    assert [item.answer_kind for item in items] == [AnswerKind.YES_NO, AnswerKind.SHORT, AnswerKind.OPEN]
    assert [item.metadata["row"] for item in items] == ["test:1", "test:2", "test:3"]
    assert (report.taken, report.published, report.difference) == (3, 451, -448)
    assert "448 fewer than the 451 published" in report.count_check()


def test_vqa_rad_from_the_authors(tmp_path: Path, write_json: Writer, put_pictures: Callable[..., None]) -> None:
    write_json(tmp_path / "in/VQA_RAD Dataset Public.json", rad_rows())
    put_pictures(tmp_path / "in/VQA_RAD Image Folder", "synpic1.jpg", "synpic2.jpg")
    _, items = taken(VQA_RAD, tmp_path / "in", tmp_path / "out")
    assert [(item.answer, item.answer_kind, item.metadata["answer_type"]) for item in items] == [
        ("yes", "yes_no", "CLOSED"), ("2", "short", "OPEN"),
    ]  # fmt: skip
    assert items[0].metadata["gold"] == "Yes"
    assert items[0].metadata["organ"] == "CHEST"
    assert items[0].cluster != items[1].cluster
    _, trained = taken(VQA_RAD, tmp_path / "in", tmp_path / "train", "train")
    assert [(item.metadata["row"], item.split) for item in trained] == [("qid:2", Split.TRAIN), ("qid:3", Split.TRAIN)]


def test_broken_vqa_rad_rows_are_refused_by_place(
    tmp_path: Path, picture: Pictures, write_parquet: Writer, write_json: Writer, put_pictures: Callable[..., None]
) -> None:
    rows = hub_rows(picture, "yes", None, "no", "no")
    rows[2]["image"] = {"bytes": b"\xff\xd8broken", "path": "2.jpg"}
    rows[3]["image"] = None
    write_parquet(tmp_path / "hub/test-0.parquet", rows)
    report, _ = taken(VQA_RAD, tmp_path / "hub", tmp_path / "out")
    assert report.refused == {"no answer": 1, "its image cannot be used": 1, "no image in the row": 1}
    assert report.first_refused["its image cannot be used"][0].where == "test-0.parquet row 3"
    broken = rad_rows()
    broken[1] |= {"image_name": "../../secret.jpg"}
    broken[2] |= {"phrase_type": "test_para", "image_name": "absent.jpg"}
    broken[3] |= {"phrase_type": "test_para", "answer_type": "MAYBE"}
    write_json(tmp_path / "in/VQA_RAD Dataset Public.json", broken)
    put_pictures(tmp_path / "in/VQA_RAD Image Folder", "synpic1.jpg")
    report, _ = taken(VQA_RAD, tmp_path / "in", tmp_path / "out2")
    places = {
        reason: first[0].where.removeprefix("VQA_RAD Dataset Public.json ")
        for reason, first in report.first_refused.items()
    }
    assert places == {
        "its image name leads out of the image folder": "row 2",
        "its image file is missing": "row 3",
        "its answer_type is neither OPEN nor CLOSED": "row 4",
    }


def test_slake_in_both_languages(tmp_path: Path, write_json: Writer, put_pictures: Callable[..., None]) -> None:
    rows = [
        slake_row(1),
        slake_row(2, question="Left or right?", answer="Left"),
        slake_row(3, question="图像里有肺吗?", answer="是", q_lang="zh"),
        slake_row(4, question="是什么成像方式?", answer="X光", q_lang="zh", answer_type="OPEN"),
    ]
    write_json(tmp_path / "in/test.json", rows)
    put_pictures(tmp_path / "in/imgs", "xmlab1/source.jpg")
    report, items = taken(SLAKE, tmp_path / "in", tmp_path / "out")
    assert [(item.answer, item.answer_kind, item.metadata["language"]) for item in items] == [
        ("no", "yes_no", "en"), ("Left", "short", "en"), ("yes", "yes_no", "zh"), ("X光", "short", "zh"),
    ]  # fmt: skip
    assert [item.metadata["gold"] for item in items] == ["No", "Left", "是", "X光"]
    assert items[0].metadata["modality"] == "X-Ray"
    assert items[0].metadata["question_type"] == "Abnormality"
    assert report.published == 2094
    report_en, english = taken(SLAKE, tmp_path / "in", tmp_path / "en", "test-en")
    report_zh, chinese = taken(SLAKE, tmp_path / "in", tmp_path / "zh", "test-zh")
    assert (report_en.published, report_zh.published) == (1061, 1033)
    assert english + chinese == items  # the same ids: runs on a part can be paired with runs on all


def test_broken_slake_is_refused_by_place(
    tmp_path: Path, write_json: Writer, put_pictures: Callable[..., None]
) -> None:
    rows = [
        slake_row(1),
        slake_row(2, answer=" "),
        slake_row(3, q_lang="fr"),
        slake_row(4, img_name="xmlab9/source.jpg"),
    ]
    del rows[2]["modality"]
    write_json(tmp_path / "in/test.json", rows)
    put_pictures(tmp_path / "in/imgs", "xmlab1/source.jpg")
    report, items = taken(SLAKE, tmp_path / "in", tmp_path / "out")
    assert [item.metadata["row"] for item in items] == ["qid:1"]
    assert {reason: first[0].where for reason, first in report.first_refused.items()} == {
        "no answer": "test.json row 2",
        "its q_lang is neither en nor zh": "test.json row 3",
        "its image file is missing": "test.json row 4",
    }
    write_json(tmp_path / "in/test.json", [{"img_name": "a.jpg", "question": "?", "gold": "No"}])
    with pytest.raises(DataError, match="test.json has no answer, answer_type, q_lang, qid; it has gold, img_name"):
        import_benchmark(SLAKE, tmp_path / "in", "test", tmp_path / "out2")
    (tmp_path / "in/test.json").write_text(json.dumps(rows)[:-5])
    with pytest.raises(DataError, match=r"test.json is not JSON"):
        import_benchmark(SLAKE, tmp_path / "in", "test", tmp_path / "out2")
    with pytest.raises(DataError, match=r"holds no train.json"):
        import_benchmark(SLAKE, tmp_path / "in", "train", tmp_path / "out2")


def test_path_vqa_and_what_is_not_it(tmp_path: Path, picture: Pictures, write_parquet: Writer) -> None:
    source = write_parquet(
        tmp_path / "in/data/test-00000-of-00003.parquet", hub_rows(picture, "Yes", "hepatocyte", None)
    )
    report, items = taken(PATH_VQA, tmp_path / "in", tmp_path / "out")
    assert [(item.answer, item.answer_kind) for item in items] == [("yes", "yes_no"), ("hepatocyte", "short")]
    assert report.first_refused["no answer"][0].where == "test-00000-of-00003.parquet row 3"
    write_parquet(source, [{"image": None, "question": "?", "answers": "yes"}])
    with pytest.raises(DataError, match="has no answer; it has answers, image, question"):
        import_benchmark(PATH_VQA, source, "test", tmp_path / "out2")
    source.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        import_benchmark(PATH_VQA, source, "test", tmp_path / "out2")
    with pytest.raises(DataError, match=r"holds no train-\*.parquet"):
        import_benchmark(PATH_VQA, tmp_path / "in", "train", tmp_path / "out2")
