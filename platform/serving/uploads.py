"""Uploaded images, kept under their hash until there are too many of them."""

import os
import time
from pathlib import Path

from residency.platform.errors import DataError
from residency.platform.media_store import MediaStore, decode_image, encode_png, media_hash
from residency.platform.serving.refusals import Refusal, bad_request

SWEEP_SECONDS = 60.0


class Uploads:
    """A folder that all replicas share. What is stored is the picture alone: no metadata of the file it came in."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._store, self._most_bytes = MediaStore(folder), most_bytes
        self._swept = 0.0

    def put(self, data: bytes) -> dict[str, object]:
        """Store an image and describe it; raises Refusal (400) for what is no image or too large a one.

        The size is looked at before the pixels are unpacked.
        """
        try:
            image = decode_image(data, "the upload")
            png = encode_png(image)
        except DataError as error:
            raise bad_request(f"{error.seen}.", code="invalid_image") from error
        key = media_hash(png)
        self._store.put_png(png)
        os.utime(self._store.path(key))  # kept while it is used
        self._sweep()
        return {
            "id": f"sha256:{key}",
            "object": "media",
            "bytes": len(png),
            "width": image.width,
            "height": image.height,
        }

    def read(self, key: str) -> bytes:
        """The PNG of a hash; raises Refusal (400) where it is not here any more."""
        try:
            return self._store.read_png(key)
        except DataError as error:
            raise Refusal(
                400, "media_not_found", f"The image sha256:{key} is not here; upload it again.", "messages"
            ) from error

    def _sweep(self) -> None:
        if time.monotonic() - self._swept < SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        files = [(entry.stat(), entry) for entry in self._store.root.glob("*/*/*.png") if entry.is_file()]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda each: each[0].st_mtime):
            if total <= self._most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size
