"""Pictures of every mode come out with the pixels that a viewer would show."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residency.platform.dataset_writer import DatasetWriter
from residency.platform.errors import DataError
from residency.platform.media_store import MAX_PIXELS
from residency.synthesis.benchmarks.gold_answers import count_words, free_answer, option_of_letter, without_label
from residency.synthesis.benchmarks.pictures import ImageIntake, decode_picture, read_picture
from residency.synthesis.benchmarks.published_files import UnusableRow


def decoded(picture: Image.Image, picture_format: str = "PNG", **options: object) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, picture_format, **options)
    return decode_picture(buffer.getvalue(), "it")


def test_pixels_of_an_rgb_picture_stay_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(decoded(Image.fromarray(pixels))), pixels)


def test_sixteen_bit_grey_is_stretched_not_clipped() -> None:
    grey = np.array([[0, 1000], [2000, 4000]], dtype=np.uint16)
    assert np.asarray(decoded(Image.fromarray(grey)))[..., 0].tolist() == [[0, 64], [128, 255]]


def test_what_is_transparent_is_white() -> None:
    assert decoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    shown = decoded(palette, transparency=0)
    assert (shown.getpixel((0, 0)), shown.getpixel((1, 0))) == ((255, 255, 255), (255, 0, 0))


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "LA"])
def test_other_modes_become_rgb(mode: str) -> None:
    picture_format = "TIFF" if mode == "CMYK" else "PNG"
    assert decoded(Image.new("RGB", (4, 4), "white").convert(mode), picture_format).getpixel((1, 1)) == (255, 255, 255)


def test_a_turned_photograph_is_turned_back() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert decoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif).size == (10, 20)


def test_corrupt_absent_and_oversized_pictures_are_named(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    with pytest.raises(DataError, match="it cannot be decoded"):
        decode_picture(picture(size=(200, 200))[:80], "it")
    with pytest.raises(DataError, match="a.png does not exist"):
        read_picture(tmp_path / "a.png")
    side = int(MAX_PIXELS**0.5) + 1
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    with pytest.raises(DataError, match="pixels"):
        decode_picture(buffer.getvalue(), "it")


@pytest.mark.parametrize(
    ("published", "answer", "kind"),
    [
        ("Yes", "yes", "yes_no"),
        ("no.", "no", "yes_no"),
        ("是", "yes", "yes_no"),
        ("不是", "no", "yes_no"),
        ("normal", "normal", "short"),
        ("in the left lower lobe", "in the left lower lobe", "short"),
        ("in the left lower lung lobe", "in the left lower lung lobe", "open"),
        ("左肺上叶和右肺", "左肺上叶和右肺", "short"),
        ("手术治疗, 放射治疗, 化学治疗", "手术治疗, 放射治疗, 化学治疗", "open"),
    ],
)
def test_the_rule_of_free_answers(published: str, answer: str, kind: str) -> None:
    assert free_answer(published) == (answer, kind)


def test_words_labels_and_letters() -> None:
    assert [count_words(text) for text in ("5 cm", "X-ray", "右肺", "a 右肺 b")] == [2, 1, 1, 3]
    assert [without_label(text, 1) for text in ("B: CT", "(B) CT", "B.CT", "C: CT", "Brain")] == [
        "CT", "CT", "CT", "C: CT", "Brain",
    ]  # fmt: skip
    assert option_of_letter(" b ", ["CT", "MR"]) == "MR"
    for letter in ("C", "", "AB", "1"):
        with pytest.raises(UnusableRow, match="no option's letter"):
            option_of_letter(letter, ["CT", "MR"])


def test_a_picture_is_decoded_once_however_many_come_in_between(tmp_path: Path) -> None:
    path = tmp_path / "first.png"
    Image.new("RGB", (4, 4), "red").save(path)
    with DatasetWriter(tmp_path / "out") as writer:
        intake = ImageIntake(writer)
        key = intake.put(path, "row 1")
        for number in range(30_000):
            writer.note_picture(f"{number}.png", key)
        path.unlink()
        assert intake.put(path, "row 30002") == key
        writer.drop_unused([key])  # its row was refused
        with pytest.raises(DataError, match="does not exist"):
            intake.put(path, "row 30003")
