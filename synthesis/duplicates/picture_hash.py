"""The perceptual hash of a picture: signs of its low cosine frequencies, for the whole and for slightly cropped
windows.

The signs of cosine frequencies about their median are the well-known "pHash"; it survives recompression, scaling and
changes of brightness, but not a crop. So each picture is also hashed as if cropped by 5 % at a corner, a side or all
round: a cropped copy then has the hash of one of the original's windows. Cropping, scaling to 32×32 and the cosine
transform are linear, so a window is one pair of 8×48 matrices around the thumbnail, and fifty thousand pictures take
seconds.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from residency.synthesis.duplicates.key_buckets import Keys, matches

SIDE = 48  # pixels of a thumbnail
SAMPLES, FREQUENCIES = 32, 8
BANDS, BAND_BITS = 4, 16
CROP = 0.05
SPANS = {"all": (0.0, 1.0), "low": (CROP, 1.0), "high": (0.0, 1.0 - CROP), "mid": (CROP / 2, 1.0 - CROP / 2)}
WINDOWS = (
    ("all", "all"), ("mid", "mid"), ("low", "low"), ("low", "high"), ("high", "low"), ("high", "high"),
    ("low", "all"), ("high", "all"), ("all", "low"), ("all", "high"),
)  # fmt: skip

Thumbnails = NDArray[np.uint8]  # [N, SIDE, SIDE]
Positions = NDArray[np.int64]


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """A picture → 48×48 grey values, each the mean of its part of the picture."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@cache
def _operator(span: str) -> NDArray[np.float32]:
    """[FREQUENCIES, SIDE]: crop to the span, sample at 32 places, take the cosine frequencies 0–7."""
    low, high = SPANS[span]
    places = (low + (np.arange(SAMPLES) + 0.5) / SAMPLES * (high - low)) * SIDE - 0.5
    places = places.clip(0, SIDE - 1)
    left = np.floor(places).astype(int).clip(0, SIDE - 2)
    sampling = np.zeros((SAMPLES, SIDE))
    sampling[np.arange(SAMPLES), left] = 1 - (places - left)
    sampling[np.arange(SAMPLES), left + 1] += places - left
    angles = np.pi / SAMPLES * (np.arange(SAMPLES) + 0.5)
    return (np.cos(np.outer(np.arange(FREQUENCIES), angles)) @ sampling).astype(np.float32)


def hashes(thumbnails: Thumbnails) -> NDArray[np.uint64]:
    """[N, SIDE, SIDE] → [N, len(WINDOWS)] 64-bit hashes; column 0 is of the whole picture."""
    grey = thumbnails.astype(np.float32)
    columns = []
    for rows, cols in WINDOWS:
        waves = (_operator(rows) @ grey @ _operator(cols).T).reshape(len(grey), -1)
        waves[:, 0] = 0  # the mean says only how bright it is
        bits = waves > np.median(waves[:, 1:], axis=1, keepdims=True)
        columns.append(np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64))
    return np.stack(columns, axis=1)


def distance(left: Keys, right: Keys) -> NDArray[np.uint8]:
    """Differing bits."""
    return np.bitwise_count(left ^ right)


def _bands(values: Keys) -> NDArray[np.uint64]:
    return np.stack([values >> np.uint64(BAND_BITS * band) & np.uint64(0xFFFF) for band in range(BANDS)], axis=-1)


def near_pairs(hashes_NW: NDArray[np.uint64], most: int) -> Iterator[tuple[Positions, Positions]]:
    """Pairs (i < j) of pictures of which one, whole, is within ``most`` bits of a window of the other; they may repeat.

    Two hashes within 7 bits agree in one of four 16-bit bands but for one bit, so each band is looked up with every
    single bit turned over as well: none is missed, and at 8 bits nearly none.
    """
    windows = hashes_NW.shape[1]
    flips = np.concatenate(([0], 1 << np.arange(BAND_BITS))).astype(np.uint64)
    index_bands = _bands(hashes_NW.ravel())
    query_bands = _bands(hashes_NW[:, 0])
    for band in range(BANDS):
        by = np.argsort(index_bands[:, band], kind="stable")
        sorted_bands, picture, window_hash = index_bands[by, band], by // windows, hashes_NW.ravel()[by]
        asked = (query_bands[:, band, None] ^ flips).ravel()
        for i, at in matches(asked, sorted_bands):
            query = i // len(flips)
            other = picture[at]
            close = (query != other) & (distance(hashes_NW[query, 0], window_hash[at]) <= most)
            if close.any():
                found = np.unique(np.sort(np.stack((query[close], other[close]), axis=1), axis=1), axis=0)
                yield found[:, 0], found[:, 1]


def window_distance(hashes_NW: NDArray[np.uint64], left: Positions, right: Positions) -> NDArray[np.uint8]:
    """The least number of differing bits between one picture, whole, and any window of the other."""
    one = distance(hashes_NW[left, :1], hashes_NW[right]).min(axis=1)
    return np.minimum(one, distance(hashes_NW[right, :1], hashes_NW[left]).min(axis=1))
