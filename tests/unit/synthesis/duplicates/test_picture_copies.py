"""Copies of pictures are found, pictures that resemble each other are told apart."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from residency.synthesis.duplicates.picture_hash import BANDS, hashes, near_pairs, thumbnail
from residency.synthesis.duplicates.pictures import are_one_picture

pytestmark = pytest.mark.timeout(120)
Change = Callable[[Image.Image], Image.Image]


def as_jpeg(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=quality)
        return Image.open(buffer)

    return change


CHANGES: dict[str, Change] = {
    "recompressed": as_jpeg(35),
    "larger": lambda image: image.resize((333, 250), Image.Resampling.LANCZOS),
    "smaller": lambda image: image.resize((70, 60)),
    "cropped at one corner": lambda image: image.crop((7, 6, 160, 128)),
    "cropped all round": lambda image: image.crop((4, 4, 156, 124)),
    "cropped at one side": lambda image: image.crop((0, 0, 153, 128)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "grey and recompressed": lambda image: as_jpeg(50)(image.convert("L")),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
@pytest.mark.parametrize("number", range(4))
def test_a_copy_is_found(name: str, number: int, drawn: Callable[[int], Image.Image]) -> None:
    image = drawn(number)
    assert are_one_picture(image, CHANGES[name](image))
    assert are_one_picture(CHANGES[name](image), image)


def test_other_pictures_are_other_pictures(drawn: Callable[[int], Image.Image]) -> None:
    assert not [(a, b) for a in range(8) for b in range(a) if are_one_picture(drawn(a), drawn(b))]


def test_a_lesion_makes_another_picture(drawn: Callable[[int], Image.Image]) -> None:
    for number in range(6):
        image = drawn(number)
        with_lesion = image.copy()
        ImageDraw.Draw(with_lesion).ellipse((70, 55, 86, 71), fill=(250, 250, 250))
        assert not are_one_picture(image, with_lesion)


def test_blank_pictures_are_copies_of_nothing() -> None:
    blank = Image.new("RGB", (64, 64), (127, 127, 127))
    assert not are_one_picture(blank, blank)


def test_every_pair_within_seven_bits_is_a_candidate() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, size=(200, 1), dtype=np.uint64)
    for bits in range(2 * BANDS):
        changed = base.copy()
        for row in range(len(base)):
            for bit in rng.choice(64, bits, replace=False).tolist():
                changed[row, 0] ^= np.uint64(1 << bit)
        found: set[tuple[int, int]] = set()
        for left, right in near_pairs(np.concatenate((base, changed)), 7):
            found |= set(zip(left.tolist(), right.tolist(), strict=True))
        assert {(row, row + len(base)) for row in range(len(base))} <= found


def test_brightness_does_not_change_the_hash(drawn: Callable[[int], Image.Image]) -> None:
    image = thumbnail(drawn(3)).astype(float)
    darker = np.stack([image, image * 0.6 + 8]).round().astype(np.uint8)
    codes = hashes(darker)
    assert np.bitwise_count(codes[0, 0] ^ codes[1, 0]) <= 1
