"""Images stored once, as PNG files named by the SHA-256 of their bytes (``ab/cd/abcd….png`` below one folder)."""

import errno
import hashlib
import io
import os
import re
import struct
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from PIL import Image

from residency.platform.errors import DataError, StorageError

MAX_PIXELS = 64 * 1024 * 1024
MEDIA_SCHEMA = pa.schema([("hash", pa.string()), ("png", pa.binary())])
MID_GREY = (127, 127, 127)
HASH_PATTERN = re.compile(r"[0-9a-f]{64}")


def check_pixels(size: tuple[int, int], where: str) -> None:
    """Raise DataError where an image of this size (width, height) is over the limit; to be asked before decoding."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{where} has {width}×{height} pixels",
            f"at most {MAX_PIXELS // 2**20} × 2^20 pixels",
            "scale it down first; a file this large may also be a decompression bomb",
        )


# Pillow reports broken files by these, depending on the format and on where the damage lies
BROKEN = (OSError, SyntaxError, EOFError, ValueError, struct.error, Image.DecompressionBombError)


def decode_image(data: bytes, where: str) -> Image.Image:
    """Image bytes of any common format → RGB image; raises DataError (naming ``where``) if corrupt or too large."""
    try:
        image = Image.open(io.BytesIO(data))
    except BROKEN as error:
        raise _corrupt(where, error) from error
    with image:
        check_pixels(image.size, where)  # before the pixels are unpacked
        try:
            return image.convert("RGB")
        except BROKEN as error:
            raise _corrupt(where, error) from error


def _corrupt(where: str, error: Exception) -> DataError:
    return DataError(
        f"{where} cannot be decoded as an image ({error})", "a sound PNG or JPEG file", "replace or remove the file"
    )


def load_image(path: Path) -> Image.Image:
    """An image file → RGB image; raises DataError naming the file if it is missing, corrupt or too large."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"the image {path} does not exist", "an image file", "put it there, or drop its row") from None
    return decode_image(data, str(path))


def encode_png(image: Image.Image) -> bytes:
    """RGB pixels as PNG, without any metadata of the original: equal pixels give equal bytes with one Pillow build."""
    check_pixels(image.size, "an image")
    rgb = image.convert("RGB")
    plain = Image.frombytes("RGB", rgb.size, rgb.tobytes())  # leaves EXIF, ICC profile and text chunks behind
    buffer = io.BytesIO()
    plain.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def media_hash(png: bytes) -> str:
    """The name of an image: SHA-256 of its PNG bytes, in hex."""
    return hashlib.sha256(png).hexdigest()


@lru_cache(maxsize=32)
def blank_png(size: tuple[int, int]) -> bytes:
    """A mid-grey picture of the given (width, height): what a model sees when it is asked blind."""
    return encode_png(Image.new("RGB", size, MID_GREY))


def media_table(pngs: Iterable[bytes]) -> pa.Table:
    """PNG bytes → table with the columns ``hash`` and ``png``, each image once, sorted by hash."""
    by_hash = {media_hash(png): png for png in pngs}
    return pa.table({"hash": sorted(by_hash), "png": [by_hash[key] for key in sorted(by_hash)]}, schema=MEDIA_SCHEMA)


class MediaStore:
    """A folder of images by content hash."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the image of this hash lies; raises DataError for what is no hash or leads out of the folder."""
        if not HASH_PATTERN.fullmatch(key):
            raise DataError(f"the media reference {key!r}", "64 hex digits (a SHA-256), never a path")
        place = self.root / key[:2] / key[2:4] / f"{key}.png"
        if not place.resolve().is_relative_to(self.root.resolve()):
            raise DataError(f"{place} leads out of {self.root} by a link", "files inside the dataset's media folder")
        return place

    def put_png(self, png: bytes) -> str:
        """Store PNG bytes as they are; an image that is already there is not written again."""
        key = media_hash(png)
        place = self.path(key)
        if place.exists():
            return key
        aside = place.with_name(f".{key}.{os.getpid()}.partial")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(png)
            aside.replace(place)
        except OSError as error:
            aside.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise StorageError(
                    f"cannot write {place}: {error.strerror}", "room on the disk", "free some space, or write elsewhere"
                ) from error
            raise
        return key

    def put(self, image: Image.Image) -> str:
        """Store an image as PNG (RGB) and return its hash."""
        return self.put_png(encode_png(image))

    def put_blank(self, size: tuple[int, int]) -> str:
        """Store a mid-grey image of (width, height) and return its hash."""
        return self.put_png(blank_png(size))

    def blank_like(self, key: str) -> str:
        """Store a mid-grey image as large as the given one and return its hash."""
        return self.put_blank(self.open_image(key).size)

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def read_png(self, key: str) -> bytes:
        """The PNG bytes of a hash; raises DataError where they are missing or are no longer what the hash says."""
        place = self.path(key)
        try:
            png = place.read_bytes()
        except FileNotFoundError:
            raise DataError(
                f"the image {place} is missing", "every image an item names", "restore it, or import the dataset again"
            ) from None
        if media_hash(png) != key:
            raise DataError(
                f"{place} no longer has the content its name says", "", "restore it, or import the dataset again"
            )
        return png

    def open_image(self, key: str) -> Image.Image:
        """The RGB image of a hash; raises DataError where it is missing or corrupt."""
        return decode_image(self.read_png(key), str(self.path(key)))

    def table(self, keys: Iterable[str]) -> pa.Table:
        """The media table (``hash``, ``png``) of some hashes: each once, sorted by hash."""
        return media_table(self.read_png(key) for key in sorted(set(keys)))
