"""The media store: content addressing, refusals, and determinism of the bytes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from residency.platform import media_store
from residency.platform.errors import DataError
from residency.platform.media_store import MediaStore, blank_png, decode_image, encode_png, load_image


def picture(seed: int = 0, size: tuple[int, int] = (12, 8)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_an_image_is_named_by_the_hash_of_its_bytes_and_stored_once(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    key = store.put(picture())
    place = tmp_path / key[:2] / key[2:4] / f"{key}.png"
    assert hashlib.sha256(place.read_bytes()).hexdigest() == key
    written = place.stat().st_mtime_ns
    assert store.put(picture()) == key
    assert place.stat().st_mtime_ns == written
    assert np.array_equal(np.asarray(store.open_image(key)), np.asarray(picture()))


def test_metadata_of_the_original_does_not_change_the_bytes(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("PatientName", "nobody")
    picture().save(tmp_path / "tagged.png", pnginfo=info)
    assert b"nobody" in (tmp_path / "tagged.png").read_bytes()
    assert encode_png(load_image(tmp_path / "tagged.png")) == encode_png(picture())


def test_table_holds_each_image_once_sorted(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    keys = [store.put(picture(seed)) for seed in range(3)]
    table = store.table([*keys, keys[0]])
    assert table.column("hash").to_pylist() == sorted(keys)
    assert hashlib.sha256(table.column("png")[0].as_py()).hexdigest() == sorted(keys)[0]
    assert store.table([]).num_rows == 0


def test_blank_is_grey_and_as_large_as_the_original(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    blank = store.open_image(store.blank_like(store.put(picture(size=(20, 10)))))
    assert blank.size == (20, 10)
    assert blank.getcolors() == [(200, media_store.MID_GREY)]
    assert store.put_blank((20, 10)) == hashlib.sha256(blank_png((20, 10))).hexdigest()


@pytest.mark.parametrize("key", ["../../etc/passwd", "a" * 63, "A" * 64, "/etc/passwd", ""])
def test_what_is_no_hash_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match="64 hex digits"):
        MediaStore(tmp_path).path(key)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "ab").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="leads out"):
        MediaStore(tmp_path / "media").path("ab" * 32)


def test_missing_and_altered_images_are_data_errors(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    key = store.put(picture())
    assert key in store
    assert "0" * 64 not in store
    with pytest.raises(DataError, match="missing"):
        store.open_image("0" * 64)
    store.path(key).write_bytes(encode_png(picture(1)))
    with pytest.raises(DataError, match="no longer has the content"):
        store.open_image(key)


@pytest.mark.parametrize("keep", [0, 10, 40, 120])
def test_a_corrupt_file_is_named(tmp_path: Path, keep: int) -> None:
    place = tmp_path / "smear_7.png"
    place.write_bytes(encode_png(picture())[:keep])
    with pytest.raises(DataError, match=r"smear_7\.png"):
        load_image(place)


def test_too_many_pixels_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_png(picture(size=(12, 8)))
    monkeypatch.setattr(media_store, "MAX_PIXELS", 95)
    with pytest.raises(DataError, match="12×8 pixels"):
        decode_image(data, "here")
    monkeypatch.setattr(media_store, "MAX_PIXELS", 96)
    assert decode_image(data, "here").size == (12, 8)
