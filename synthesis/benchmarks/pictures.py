"""Pictures as benchmarks publish them → RGB, with the pixels a viewer would show."""

import io
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from residency.platform.dataset_writer import DatasetWriter
from residency.platform.errors import DataError
from residency.platform.media_store import BROKEN, check_pixels, encode_png

DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # more than eight bits a pixel


def read_picture(path: Path) -> Image.Image:
    """A picture file → RGB; raises DataError naming the file where it is absent, corrupt or too large."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"the image {path} does not exist", "an image file", "put it there") from None
    return decode_picture(data, str(path))


def decode_picture(data: bytes, where: str) -> Image.Image:
    """Encoded bytes → RGB: turned as its EXIF says, transparent parts over white, deep grey stretched to 0–255."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            check_pixels(picture.size, where)  # before the pixels are unpacked
            return plain_rgb(ImageOps.exif_transpose(picture))
    except DataError:
        raise  # it is a ValueError too
    except BROKEN as error:
        raise DataError(f"{where} cannot be decoded as an image ({error})", "a sound image file") from error


def plain_rgb(picture: Image.Image) -> Image.Image:
    """Any mode → RGB. Pillow alone would clip 16-bit grey to white and uncover what transparency hides."""
    if picture.mode in DEEP_MODES:
        values = np.asarray(picture, dtype=np.float64)
        low, high = float(values.min()), float(values.max())
        grey = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
    return picture.convert("RGB")


class ImageIntake:
    """Puts images into the dataset that is being written; what was met before is not decoded again."""

    def __init__(self, writer: DatasetWriter) -> None:
        self._writer = writer

    def put(self, image: bytes | Path | Image.Image, where: str) -> str:
        """The hash under which the image is kept; raises DataError where it is absent, corrupt or too large."""
        store = self._writer.media
        if isinstance(image, Image.Image):
            return store.put_png(encode_png(image))
        name = str(image) if isinstance(image, Path) else sha256(image).hexdigest()
        key = self._writer.picture_of(name)
        if key is None or key not in store:  # it went with a row that was refused later
            picture = read_picture(image) if isinstance(image, Path) else decode_picture(image, f"the image of {where}")
            key = store.put_png(encode_png(picture))
            self._writer.note_picture(name, key)
        return key
