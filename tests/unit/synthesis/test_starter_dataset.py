"""The starter set: three families, balanced, deterministic, and no source pixel in two splits."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residency.platform.dataset_folder import Dataset, read_dataset
from residency.platform.errors import BadInputError, DataError
from residency.platform.recipe import DataConfig
from residency.platform.records import AnswerKind, Family, Item, Split
from residency.synthesis.facts import STARTER_TASKS, TASKS, check_facts
from residency.synthesis.importers import FORMATS, list_formats
from residency.synthesis.starter_dataset import make_starter
from residency.synthesis.starter_lesions import Lesion, draw_lesions, place_lesions
from residency.synthesis.starter_sources import (
    MODALITIES,
    SOURCES,
    Tile,
    check_disjoint,
    region,
    source_pixels,
    tile_edge,
)

CONFIG = DataConfig(format="starter", train_items=120, tune_items=60, held_out_items=80)


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(make_starter(tmp_path_factory.mktemp("starter") / "set", CONFIG, 0))


def of_task(dataset: Dataset, task: str) -> list[Item]:
    return [item for item in dataset.items if item.metadata["task"] == task]


def test_three_families_and_all_tasks_in_every_split(starter: Dataset) -> None:
    assert starter.card.counts == {"train": 120, "tune": 60, "held_out": 80}
    for split in Split:
        items = starter.split(split)
        assert {item.family for item in items} == set(Family)
        assert {item.metadata["task"] for item in items} == {task.name for task in STARTER_TASKS}
    assert "not a benchmark" in starter.card.note
    assert all(f"{source.name}: {source.licence}" in starter.card.licence for source in SOURCES.values())


def test_answers_are_balanced_within_each_closed_task(starter: Dataset) -> None:
    for task in ("lesion_present", "lesion_side", "lesion_count", "modality", "shape_colour", "dose_limit"):
        for split in Split:
            counts = Counter(item.answer for item in of_task(starter, task) if item.split == split)
            assert max(counts.values()) - min(counts.values()) <= 1, (task, split, counts)


def test_answers_follow_from_the_facts(starter: Dataset) -> None:
    for item in starter.items:
        facts, task = item.metadata["facts"], item.metadata["task"]
        check_facts(task, facts)
        if item.answer_kind is AnswerKind.CHOICE:
            assert item.answer in item.options
        if task == "lesion_count":
            assert int(item.answer) == int(facts["left"]) + int(facts["right"])
        elif task == "lesion_side":
            assert item.answer == ("left" if int(facts["column"]) <= 2 else "right")
        elif task == "lesion_present":
            assert (item.answer == "no") == (facts["tone"] == "none") == (facts["size"] == "none")
        elif task == "lesion_box":
            x0, y0, x1, y1 = json.loads(item.answer)[0]
            assert (x0, y0) == (0.5 * (facts["side"] == "right"), 0.5 * (facts["height"] == "lower"))
            inner = item.metadata["lesions"][0]["box"]
            assert x0 - 0.002 <= inner[0] < inner[2] <= x1 + 0.002
            assert y0 - 0.002 <= inner[1] < inner[3] <= y1 + 0.002
        elif task == "dose_total":
            assert int(item.answer) == int(facts["strength"]) * int(facts["tablets"])
        elif task == "dose_limit":
            assert item.answer == ("yes" if int(facts["total"]) > int(facts["limit"]) else "no")
        elif task == "unit_convert":
            assert int(item.answer) == int(facts["factor"]) * int(facts["amount"])


def test_no_source_pixel_is_in_two_splits(starter: Dataset) -> None:
    owner = {name: np.zeros(source_pixels(name).shape[:2], dtype=int) for name in SOURCES}
    for item in starter.items:
        if "tile" in item.metadata:
            x, y, edge = item.metadata["tile"]
            owner[item.metadata["source_picture"]][y : y + edge, x : x + edge] |= 1 << list(Split).index(item.split)
    assert sum(int(np.isin(mask, [1, 2, 4]).any()) for mask in owner.values()) >= 6
    assert all(np.isin(mask, [0, 1, 2, 4]).all() for mask in owner.values())


def test_the_check_of_shared_pixels_can_fail() -> None:
    good = [Tile("ct", Split.TRAIN, 0, 0, 20), Tile("ct", Split.TUNE, 20, 0, 20), Tile("mr", Split.TUNE, 0, 0, 20)]
    check_disjoint(good)
    with pytest.raises(DataError, match="shares source pixels"):
        check_disjoint([*good, Tile("ct", Split.HELD_OUT, 19, 19, 20)])


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_sources_load_without_a_download_and_their_regions_hold_a_tile(name: str) -> None:
    pixels = source_pixels(name)
    height, width, channels = pixels.shape
    assert (channels, pixels.dtype) == (3, np.uint8)
    assert pixels.std() > 10
    assert SOURCES[name].modality in MODALITIES
    assert SOURCES[name].colour in TASKS["modality"].facts[0].values
    edge = tile_edge(height, width)
    assert edge >= 16
    covered = np.zeros((height, width), dtype=int)
    for split in Split:
        x0, y0, x1, y1 = region(height, width, split)
        assert min(x1 - x0, y1 - y0) >= edge
        covered[y0:y1, x0:x1] += 1
    assert covered.max() == 1


def test_a_drawn_spot_is_where_and_what_it_says() -> None:
    ground = np.full((84, 84, 3), 60, dtype=np.uint8)
    lesion = Lesion(2, 1, 0.625, 0.375, 0.09, 0.09, "large", "bright", 100.0)
    drawn = draw_lesions(ground, [lesion])
    rows, columns = np.nonzero(drawn[..., 0] > 110)
    assert drawn[31, 52].tolist() == [160, 150, 60]
    assert abs(columns.mean() + 0.5 - 0.625 * 84) < 0.5
    assert abs(rows.mean() + 0.5 - 0.375 * 84) < 0.5
    assert abs(len(rows) - np.pi * (0.09 * 84) ** 2) < 12
    assert lesion.quarter_box == [0.5, 0.0, 1.0, 0.5]
    assert lesion.side == "right"
    assert (ground == 60).all()


def test_spots_contrast_with_their_ground() -> None:
    for shade, tone in ((40, "bright"), (220, "dark")):
        ground = np.full((84, 84, 3), shade, dtype=np.uint8)
        lesions = [one for seed in range(12) for one in place_lesions(ground, random.Random(seed))]
        assert lesions
        assert {one.tone for one in lesions} == {tone}


def test_pictures_are_84_pixels_and_not_flat(starter: Dataset) -> None:
    for item in starter.items[:30]:
        for key in item.media:
            picture = starter.media.open_image(key)
            assert picture.size == (84, 84)
            assert np.asarray(picture).std() > 3


def test_same_seed_same_content(tmp_path: Path, starter: Dataset) -> None:
    config = CONFIG.model_copy(update={"train_items": 40, "tune_items": 40, "held_out_items": 40})
    hashes = [
        read_dataset(FORMATS["starter"].run(None, tmp_path / f"{number}", config, seed)).card.content_hash
        for number, seed in enumerate((3, 3, 4))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_formats_are_listed_and_wrong_sources_refused(tmp_path: Path) -> None:
    assert [line.split()[0] for line in list_formats()] == ["starter", "voc"]
    with pytest.raises(BadInputError, match="Annotations"):
        FORMATS["voc"].run(None, tmp_path / "out", CONFIG, 0)
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    with pytest.raises(BadInputError, match="made on the spot"):
        FORMATS["starter"].run(tmp_path, tmp_path / "out", CONFIG, 0)
