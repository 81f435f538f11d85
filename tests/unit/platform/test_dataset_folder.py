"""Dataset folders: what is written is read back; half a dataset never looks whole."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from residency.platform.dataset_folder import DatasetCard, content_hash, read_dataset, write_dataset
from residency.platform.errors import DataError
from residency.platform.media_store import encode_png, media_hash
from residency.platform.records import AnswerKind, Family, Item, Split

PNGS = [encode_png(Image.new("RGB", (4, 4), (shade, 0, 0))) for shade in range(3)]
CARD = DatasetCard(name="tiny", source="drawn", licence="CC0", splits="by hand", skipped={"no area": 2})


def item(row: int, split: Split) -> Item:
    key = media_hash(PNGS[row])
    return Item(
        id=Item.make_id("drawn", split, str(row)),
        content_key=Item.make_content_key("what ?", (), [key]),
        source="drawn",
        split=split,
        licence="CC0",
        cluster=f"c{row}",
        media=(key,),
        question="what ?",
        answer=str(row),
        answer_kind=AnswerKind.NUMBER,
        family=Family.GENERAL_MULTIMODAL,
        metadata={"task": "t", "facts": {"b": "1", "a": "2"}},
    )


ITEMS = [item(0, Split.TRAIN), item(1, Split.TRAIN), item(2, Split.HELD_OUT)]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "set", ITEMS, PNGS, CARD)
    dataset = read_dataset(out)
    assert list(dataset.items) == ITEMS
    assert list(dataset.items[0].metadata["facts"]) == ["b", "a"]
    assert dataset.card.counts == {"train": 2, "tune": 0, "held_out": 1}
    assert dataset.card.clusters == dataset.card.counts
    assert dataset.card.skipped == {"no area": 2}
    assert dataset.split(Split.HELD_OUT) == (ITEMS[2],)
    assert dataset.media.read_png(ITEMS[1].media[0]) == PNGS[1]
    assert not (tmp_path / "set.partial").exists()


def test_content_hash_is_of_content_not_of_order() -> None:
    assert content_hash(ITEMS) == content_hash(ITEMS[::-1])
    assert content_hash(ITEMS) != content_hash([replace(ITEMS[0], answer="7"), *ITEMS[1:]])


def test_an_item_without_its_image_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 images that items name were not given"):
        write_dataset(tmp_path / "set", ITEMS, PNGS[:2], CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_import_is_cleared_away_and_a_full_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "set.partial").mkdir()
    (tmp_path / "set.partial" / "dataset.yaml").write_text("half")
    write_dataset(tmp_path / "set", ITEMS, PNGS, CARD)
    with pytest.raises(DataError, match="exists already"):
        write_dataset(tmp_path / "set", ITEMS, PNGS, CARD)
    assert len(read_dataset(tmp_path / "set").items) == 3


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cluster": "c0"}, "cluster"),
        ({"content_key": ITEMS[0].content_key}, "content_key"),
        ({"id": ITEMS[0].id}, "more than once"),
    ],
)
def test_what_leaks_between_splits_is_refused(tmp_path: Path, change: dict[str, str], text: str) -> None:
    with pytest.raises(DataError, match=text):
        write_dataset(tmp_path / "set", [ITEMS[0], replace(ITEMS[2], **change)], PNGS, CARD)


def test_damage_is_found_on_reading(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "set", ITEMS, PNGS, CARD)
    dataset = read_dataset(out)
    dataset.media.path(ITEMS[0].media[0]).unlink()
    with pytest.raises(DataError, match="1 images of .* are missing"):
        read_dataset(out)
    card = yaml.safe_load((out / "dataset.yaml").read_text())
    for key, value, text in (
        ("schema_version", 99, "schema_version 99"),
        ("content_hash", "0" * 64, "content hash"),
        ("colour", "red", "unknown keys"),
    ):
        (out / "dataset.yaml").write_text(yaml.safe_dump(card | {key: value}))
        with pytest.raises(DataError, match=text):
            read_dataset(out)
    (out / "dataset.yaml").unlink()
    with pytest.raises(DataError, match="residency import"):
        read_dataset(out)
