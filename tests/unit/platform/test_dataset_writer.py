"""A dataset written item by item is the same as one written at once, and a broken one leaves nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from residency.platform import dataset_writer
from residency.platform.dataset_folder import DatasetCard, read_dataset, stream_items, write_dataset
from residency.platform.dataset_writer import DatasetWriter
from residency.platform.errors import DataError
from residency.platform.media_store import encode_png, media_hash
from residency.platform.records import AnswerKind, Family, Item, Split

PNGS = [encode_png(Image.new("RGB", (4, 4), (shade, 0, 0))) for shade in range(5)]
CARD = DatasetCard(name="tiny", source="drawn", licence="CC0", splits="by hand", skipped={"no area": 2})


def item(row: int, split: Split = Split.TRAIN) -> Item:
    key = media_hash(PNGS[row])
    return Item(
        id=Item.make_id("drawn", split, str(row)),
        content_key=Item.make_content_key('what\'s "it"?\n', ("a", "b"), [key]),
        source="drawn",
        split=split,
        licence="CC0",
        cluster=f"c{row}",
        patient_id=None if row % 2 else f"p{row}",
        media=(key,),
        question='what\'s "it"?\n 細胞 \\',
        options=("a", "b") if row % 2 else (),
        answer=str(row),
        answer_kind=AnswerKind.NUMBER,
        family=Family.GENERAL_MULTIMODAL,
        metadata={"row": row, "facts": {"b": "1", "a": None}},
    )


ITEMS = [item(0), item(1), item(2, Split.HELD_OUT), item(3, Split.HELD_OUT), item(4)]


def test_the_same_card_hash_and_items_as_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_writer, "ROWS_IN_GROUP", 2)
    with DatasetWriter(tmp_path / "stream") as writer:
        for png in PNGS:
            writer.media.put_png(png)
        assert [writer.add(one) for one in ITEMS] == [None] * 5
        card = writer.seal(CARD)
    whole = read_dataset(write_dataset(tmp_path / "whole", ITEMS, PNGS, CARD))
    streamed = read_dataset(tmp_path / "stream")
    assert card == streamed.card == whole.card
    assert list(streamed.items) == ITEMS == list(stream_items(tmp_path / "stream"))
    assert sorted(path.name for path in (tmp_path / "stream").iterdir()) == ["dataset.yaml", "items.parquet", "media"]


def test_what_clashes_is_not_taken_and_its_image_goes(tmp_path: Path) -> None:
    other = item(2)
    clashing = [
        replace(other, split=Split.HELD_OUT, cluster="c0"),
        replace(other, split=Split.HELD_OUT, patient_id="p0"),
        replace(other, split=Split.HELD_OUT, content_key=item(0).content_key),
        replace(item(0), id="new", split=Split.HELD_OUT, cluster="new", patient_id=None, content_key="new"),
        replace(other, id=item(0).id),
    ]
    with DatasetWriter(tmp_path / "set") as writer:
        for png in PNGS[:3]:
            writer.media.put_png(png)
        assert writer.add(item(0)) is None
        clashes = []
        for one in clashing:
            writer.media.put_png(PNGS[2])
            clash = writer.add(one)
            assert clash is not None
            clashes.append(clash.reason)
            assert media_hash(PNGS[0]) in writer.media, "an image that a taken item shows stays"
        assert media_hash(PNGS[2]) not in writer.media
        assert writer.add(replace(item(0), id="again")) is None
        assert (writer.num_items, writer.num_repeats) == (2, 1)
    assert clashes == [
        *(f"its {kind} lies in another split" for kind in ("cluster", "patient", "content", "image")),
        "an earlier row has its key",
    ]


def test_an_unsealed_folder_leaves_nothing_and_a_taken_name_is_refused(tmp_path: Path) -> None:
    def broken() -> None:
        with DatasetWriter(tmp_path / "set") as writer:
            writer.media.put_png(PNGS[0])
            writer.add(ITEMS[0])
            writer.add(ITEMS[1])  # its image was not put

    with pytest.raises(DataError, match="which was not given"):
        broken()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    (tmp_path / "set/mine").touch()
    with pytest.raises(DataError, match="exists already"):
        DatasetWriter(tmp_path / "set")
