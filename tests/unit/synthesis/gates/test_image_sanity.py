"""Pictures that cannot carry a question."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residency.platform.media_store import MediaStore, encode_png
from residency.platform.records import Item
from residency.synthesis.gates.decision import Outcome
from residency.synthesis.gates.image_sanity import image_sanity_gate, picture_fault

pytestmark = pytest.mark.timeout(60)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form)
    return buffer.getvalue()


def speck() -> Image.Image:
    values = np.full((100, 100), 10, np.uint8)
    values[50, 50] = 255
    return Image.fromarray(values)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(picture(12, 60)), "a picture that is too small"),
        (encoded(picture(1200, 30)), "a picture that is too long"),
        (encoded(Image.new("RGB", (64, 64), (127, 127, 127))), "a blank picture"),
        (encoded(speck()), "a blank picture"),
        (encoded(picture(64, 64), "JPEG")[:300], "a broken picture file"),
        (encoded(picture(64, 64))[:2000], "a broken picture file"),
        (b"no picture", "a broken picture file"),
        (encoded(Image.new("1", (9000, 9000))), "a picture with too many pixels"),
    ],
)
def test_a_bad_picture_has_its_reason(data: bytes, reason: str) -> None:
    fault = picture_fault(data)
    assert fault is not None
    assert fault.reason == reason


def test_a_sound_picture_has_none() -> None:
    assert picture_fault(encoded(picture(64, 64))) is None
    assert picture_fault(encoded(picture(64, 64), "JPEG")) is None


def test_missing_and_repeated_pictures(tmp_path: Path, make_item: Callable[..., Item]) -> None:
    store = MediaStore(tmp_path)
    one, other = store.put(picture(64, 64)), store.put(picture(64, 64, seed=1))
    scaled = store.put_png(encode_png(picture(64, 64).resize((96, 96))))
    gate = image_sanity_gate(store)
    assert gate(make_item(media=(one, other))).outcome is Outcome.PASSED
    assert gate(make_item(media=(one, one))).reason == "one picture twice in an item"
    assert gate(make_item(media=(other, one, scaled))).evidence == "pictures 2 and 3"
    assert gate(make_item(media=("0" * 64,))).reason == "a missing picture"
