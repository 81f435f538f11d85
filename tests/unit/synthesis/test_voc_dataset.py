"""Pascal VOC import: what the boxes settle is asked, faults are named before anything is written."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import DataError
from residency.platform.recipe import DataConfig
from residency.platform.records import Split
from residency.synthesis.drafts import allot
from residency.synthesis.voc_crops import Window, see
from residency.synthesis.voc_dataset import import_voc
from residency.synthesis.voc_reader import NO_AREA, REPEATED, VocBox, read_voc

BCCD = Path(__file__).resolve().parents[4] / "shared" / "data" / "bccd"
CONFIG = DataConfig(format="voc", source="here", train_items=60, tune_items=24, held_out_items=36)
BoxRow = tuple[str, float, float, float, float]


def annotation(boxes: list[BoxRow], size: tuple[int, int] = (160, 120)) -> str:
    rows = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1 in boxes
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{rows}</annotation>"


def make_voc(root: Path, classes: tuple[str, str] = ("RBC", "Platelets")) -> Path:
    """Twelve pictures, eight of them for training, with a few large and a few small boxes each."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    rng = random.Random(0)
    stems = [f"smear_{number}" for number in range(12)]
    for number, stem in enumerate(stems):
        boxes: list[BoxRow] = []
        for _ in range(6):
            x, y = rng.randint(0, 130), rng.randint(0, 90)
            boxes.append((classes[0], x, y, x + 26, y + 26))
        for _ in range(2):
            x, y = rng.randint(0, 148), rng.randint(0, 108)
            boxes.append((classes[1], x, y, x + 10, y + 10))
        (root / "Annotations" / f"{stem}.xml").write_text(annotation(boxes))
        pixels = np.random.default_rng(number).integers(0, 256, (120, 160, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{stem}.jpg")
    (root / "ImageSets/Main/train.txt").write_text("\n".join(stems[:8]) + "\n")
    (root / "ImageSets/Main/val.txt").write_text("\n".join(stems[8:]) + "\n")
    (root / "LICENSE").write_text("\nMIT License\n\nCopyright …\n")
    return root


def test_visible_share_worked_by_hand() -> None:
    seen = see(VocBox("RBC", 90, 40, 110, 60), Window(0, 0, 100))
    assert seen is not None
    assert (seen.x0, seen.y0, seen.x1, seen.y1, seen.visible) == (0.9, 0.4, 1.0, 0.6, 0.5)
    assert see(VocBox("RBC", 100, 40, 110, 60), Window(0, 0, 100)) is None


def test_allot_gives_what_a_full_task_leaves_to_the_others() -> None:
    assert allot(10, {"a": 0.5, "b": 0.5}, {"a": 2, "b": 20}) == {"a": 2, "b": 8}
    assert allot(10, {"a": 0.9, "b": 0.1}, {"a": 4, "b": 3}) == {"a": 4, "b": 3}
    assert sum(allot(1000, {"a": 0.2, "b": 0.35, "c": 0.45}, {"a": 999, "b": 999, "c": 999}).values()) == 1000


def test_any_classes_become_balanced_questions_split_by_picture(tmp_path: Path) -> None:
    source = make_voc(tmp_path / "birds", ("crow", "Snow_Finch"))
    dataset = read_dataset(import_voc(source, tmp_path / "out", CONFIG, 0))
    assert dataset.card.licence == "MIT License"
    clusters = {split: {item.cluster for item in dataset.split(split)} for split in Split}
    assert clusters[Split.HELD_OUT] <= {f"smear_{number}" for number in range(8, 12)}
    assert clusters[Split.TRAIN] | clusters[Split.TUNE] <= {f"smear_{number}" for number in range(8)}
    assert not clusters[Split.TRAIN] & clusters[Split.TUNE]
    assert {item.metadata["task"] for item in dataset.items} == {
        "object_type", "object_present", "object_count", "object_side",
    }  # fmt: skip
    assert "is there a snow finch ?" in {item.question for item in dataset.items}
    for split in Split:
        sides = Counter(item.answer for item in dataset.split(split) if item.metadata["task"] == "object_side")
        assert abs(sides["left"] - sides["right"]) <= 1
        assert sides["left"] > 0


def test_questions_agree_with_the_boxes_in_the_crop(tmp_path: Path) -> None:
    dataset = read_dataset(import_voc(make_voc(tmp_path / "voc"), tmp_path / "out", CONFIG, 0))
    for item in dataset.items:
        boxes = item.metadata["boxes"]
        small = [box for box in boxes if box["name"] == "Platelets"]
        match item.metadata["task"]:
            case "object_present":
                assert item.answer == ("yes" if small else "no")
            case "object_side":
                assert len(small) == 1
                middle = (small[0]["box"][0] + small[0]["box"][2]) / 2
                assert item.answer == ("left" if middle < 0.5 else "right")
            case "object_type":
                central = [b for b in boxes if b["box"][0] <= 0.5 <= b["box"][2] and b["box"][1] <= 0.5 <= b["box"][3]]
                assert [box["name"].lower() for box in central] == [item.answer]
            case task:
                assert task == "object_count"
                facts = item.metadata["facts"]
                assert int(item.answer) == int(facts["left"]) + int(facts["right"])


def test_same_seed_same_content(tmp_path: Path) -> None:
    source = make_voc(tmp_path / "voc")
    hashes = [
        read_dataset(import_voc(source, tmp_path / str(number), CONFIG, seed)).card.content_hash
        for number, seed in enumerate((0, 0, 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_boxes_without_area_and_repeated_pictures_are_counted(tmp_path: Path) -> None:
    source = make_voc(tmp_path / "voc")
    first = source / "Annotations" / "smear_0.xml"
    first.write_text(annotation([("RBC", 10, 10, 40, 40), ("RBC", 20, 20, 20, 20), ("WBC", 5, 8, 9, 8)]))
    image = source / "JPEGImages" / "smear_1.jpg"
    image.write_bytes((source / "JPEGImages" / "smear_9.jpg").read_bytes())
    folder = read_voc(source)
    assert folder.skipped == {NO_AREA: 2, REPEATED: 1}
    assert [box.name for box in folder.train[0].boxes] == ["RBC"]
    assert "smear_1" not in {picture.stem for picture in folder.train}


def break_box(source: Path) -> None:
    (source / "Annotations" / "smear_9.xml").write_text(annotation([("RBC", 1, 1, 9, 9), ("RBC", 150, 10, 161, 30)]))


def swap_corners(source: Path) -> None:
    (source / "Annotations" / "smear_9.xml").write_text(annotation([("RBC", 30, 1, 9, 9)]))


def lose_image(source: Path) -> None:
    (source / "JPEGImages" / "smear_9.jpg").unlink()


def cut_image(source: Path) -> None:
    place = source / "JPEGImages" / "smear_9.jpg"
    place.write_bytes(place.read_bytes()[:700])


def lose_annotation(source: Path) -> None:
    (source / "Annotations" / "smear_9.xml").unlink()


def break_xml(source: Path) -> None:
    (source / "Annotations" / "smear_9.xml").write_text("<annotation><size>")


def lose_list(source: Path) -> None:
    (source / "ImageSets" / "Main" / "val.txt").unlink()


def climb_out(source: Path) -> None:
    (source / "ImageSets" / "Main" / "val.txt").write_text("../../secret\n")


def list_twice(source: Path) -> None:
    (source / "ImageSets" / "Main" / "val.txt").write_text("smear_0\nsmear_9\n")


def resize_image(source: Path) -> None:
    Image.new("RGB", (80, 60)).save(source / "JPEGImages" / "smear_9.jpg")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (break_box, r"box 2 of .*smear_9\.xml, RBC \(150, 10\)–\(161, 30\), lies outside the picture of 160×120"),
        (swap_corners, r"smear_9\.xml, .* corners swapped"),
        (lose_image, r"smear_9\.xml is missing"),
        (cut_image, r"smear_9\.jpg cannot be decoded"),
        (lose_annotation, r"smear_9\.xml does not exist"),
        (break_xml, r"smear_9\.xml is not XML"),
        (lose_list, r"val\.txt does not exist"),
        (climb_out, r"names '\.\./\.\./secret'"),
        (list_twice, "smear_0 is in train.txt and in val.txt"),
        (resize_image, r"smear_9\.jpg has 80×60 pixels"),
    ],
)
def test_a_fault_is_named_before_anything_is_written(tmp_path: Path, damage: object, text: str) -> None:
    source = make_voc(tmp_path / "voc")
    assert callable(damage)
    damage(source)
    with pytest.raises(DataError, match=text):
        import_voc(source, tmp_path / "out", CONFIG, 0)
    assert [place.name for place in tmp_path.iterdir()] == ["voc"]


@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD folder is not beside the repository")
def test_bccd_gives_a_thousand_held_out_questions(tmp_path: Path) -> None:
    config = DataConfig(format="voc", source=str(BCCD), train_items=300, tune_items=100, held_out_items=1000)
    dataset = read_dataset(import_voc(BCCD, tmp_path / "out", config, 0))
    assert dataset.card.counts == {"train": 300, "tune": 100, "held_out": 1000}
    assert dataset.card.clusters["held_out"] == 87
    assert dataset.card.skipped == {NO_AREA: 2}
    for task in {item.metadata["task"] for item in dataset.items}:
        answers = Counter(item.answer for item in dataset.split(Split.HELD_OUT) if item.metadata["task"] == task)
        assert len(answers) >= 2
        assert max(answers.values()) - min(answers.values()) <= 1, (task, answers)
    types = {
        item.answer: item.metadata["facts"]["stain"] for item in dataset.items if "stain" in item.metadata["facts"]
    }
    assert types == {"red cell": "pink", "white cell": "purple", "platelet": "purple"}
