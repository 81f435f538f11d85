"""All pictures of the items: numbered, hashed, and put together where two are copies of one picture.

Memory: some 150 bytes a distinct picture; the thumbnails (2.3 kB each) lie on disk.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from residency.platform.errors import DataError
from residency.platform.gates_config import DuplicatesConfig
from residency.platform.media_store import MediaStore
from residency.synthesis.duplicates.picture_alignment import prepared, residual
from residency.synthesis.duplicates.picture_hash import (
    SIDE,
    WINDOWS,
    hashes,
    near_pairs,
    thumbnail,
    window_distance,
)

MIN_SPREAD = 3.0  # grey values: below that a picture is blank and resembles every other blank one
CHUNK = 2048


@dataclass(frozen=True, slots=True)
class PictureGroups:
    """``group[n]`` is the number of the first copy of picture n; ``hashes[n]`` its 64-bit hashes, window 0 the whole.

    ``near`` counts pairs of different files found to be one picture, ``unreadable`` pictures that could not be decoded.
    """

    group: NDArray[np.uint32]
    hashes: NDArray[np.uint64]
    near: int
    unreadable: int

    def distance(self, left: int, right: int) -> int:
        """The hash distance of two pictures in bits, least over the windows."""
        return int(window_distance(self.hashes, np.array([left]), np.array([right]))[0])


class PictureIndex:
    """Numbers pictures as they come, in ``number``; each is opened once, in ``grouped``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "thumbnails.bin"
        self._path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._numbers: dict[bytes, int] = {}
        self._waiting: list[NDArray[np.uint8]] = []
        self._blank: list[int] = []
        self._unreadable = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, key: str, store: MediaStore) -> int:
        """The picture's number, the same for the same hash; a new one is read here."""
        name = bytes.fromhex(key) if len(key) == 64 else key.encode()
        known = self._numbers.get(name)
        if known is not None:
            return known
        self._numbers[name] = number = len(self._numbers)
        try:
            picture = thumbnail(store.open_image(key))
        except DataError:  # a broken picture is the gates' business; here it is a copy of nothing
            picture = np.zeros((SIDE, SIDE), np.uint8)
            self._unreadable += 1
        if picture.std() < MIN_SPREAD:
            self._blank.append(number)
        self._waiting.append(picture)
        if len(self._waiting) == CHUNK:
            self._flush()
        return number

    def grouped(self, config: DuplicatesConfig) -> PictureGroups:
        """Find copies among all pictures numbered so far; without a hash distance each file is a picture of its own."""
        self._flush()
        count = len(self._numbers)
        if not count:
            return PictureGroups(np.zeros(0, np.uint32), np.zeros((0, len(WINDOWS)), np.uint64), 0, 0)
        thumbnails = np.memmap(self._path, np.uint8, "r", shape=(count, SIDE, SIDE))
        codes = np.concatenate([hashes(thumbnails[at : at + CHUNK]) for at in range(0, count, CHUNK)])
        blank = np.zeros(count, bool)
        blank[self._blank] = True
        if config.hash_distance is None:
            return PictureGroups(np.arange(count, dtype=np.uint32), codes, 0, self._unreadable)
        left, right = _verified(codes, thumbnails, blank, config.hash_distance, config.picture_residual)
        links = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
        _, labels = connected_components(links, directed=False)
        first = np.full(labels.max() + 1, count, np.uint32)
        np.minimum.at(first, labels, np.arange(count, dtype=np.uint32))
        return PictureGroups(first[labels], codes, len(left), self._unreadable)

    def _flush(self) -> None:
        if self._waiting:
            with self._path.open("ab") as file:
                np.stack(self._waiting).tofile(file)
            self._waiting.clear()


def _verified(
    codes: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    blank: NDArray[np.bool_],
    bits: int,
    most_residual: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of numbers that are one picture: near by hash, then equal after alignment."""
    width = np.int64(len(codes))
    found = [left * width + right for left, right in near_pairs(codes, bits) if len(left)]
    packed = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    left, right = packed // width, packed % width
    kept = ~(blank[left] | blank[right])
    left, right = left[kept], right[kept]
    same = np.zeros(len(left), bool)
    for at in range(0, len(left), CHUNK):
        part = slice(at, at + CHUNK)
        # fancy indexing of a memory map reads only these thumbnails
        apart = residual(prepared(thumbnails[left[part]]), prepared(thumbnails[right[part]]))
        same[part] = apart <= most_residual
    return left[same], right[same]


def are_one_picture(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures are one but for compression, size, brightness or a slight crop, by the usual thresholds."""
    usual = DuplicatesConfig()
    assert usual.hash_distance is not None
    both = np.stack([thumbnail(one), thumbnail(other)])
    if both.reshape(2, -1).std(axis=1).min() < MIN_SPREAD:
        return False
    left, _ = _verified(hashes(both), both, np.zeros(2, bool), usual.hash_distance, usual.picture_residual)
    return len(left) > 0
