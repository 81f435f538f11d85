"""The real pictures of the starter set: those that pydicom and scikit-image carry inside their packages.

Each picture is cut into three regions first, one a split, and tiles are taken from within a region only, so that no
source pixel serves two splits.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pydicom.examples
import skimage.data
from PIL import Image
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from residency.platform.errors import DataError
from residency.platform.records import Split

Pixels = npt.NDArray[np.uint8]  # [height, width, 3]
PYDICOM = "MIT (a test file that comes with pydicom; its origin stands in pydicom's data/test_files/README.txt)"
MODALITIES = ("ct", "mr", "ultrasound", "histology", "fundus", "phantom")
LARGEST_TILE = 160  # source pixels
TILE_TO_REGION = 0.8  # of the narrowest region
MAX_DARK_RATIO, MIN_DEVIATION, ATTEMPTS = 0.5, 6.0, 40


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """One picture inside a package: how to load it, what it shows and under which licence."""

    name: str
    modality: str
    colour: str  # of its coloured parts: a value of the fact `colour` of the task `modality`
    licence: str
    load: Callable[[], Pixels]
    has_own_spots: bool = False  # then only its modality is asked: drawn spots could not be told from its own


@dataclass(frozen=True, slots=True)
class Tile:
    """A square of a source picture, in its pixels."""

    source: str
    split: Split
    x: int
    y: int
    edge: int

    @property
    def key(self) -> str:
        return f"{self.source}:{self.x},{self.y},{self.edge}"


def _grey(values: npt.NDArray[np.generic]) -> Pixels:
    """Any grey values → 8 bit over the range from the 1st to the 99th percentile, in three equal channels."""
    plain = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(plain, (1, 99))
    scaled = np.clip((plain - low) / max(high - low, 1e-9), 0, 1)
    return np.repeat((scaled * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def _first_frame(dataset: Dataset) -> npt.NDArray[np.generic]:
    pixels = dataset.pixel_array
    return pixels[0] if int(dataset.get("NumberOfFrames", 1)) > 1 else pixels


def _ct() -> Pixels:
    return _grey(_first_frame(pydicom.examples.ct))


def _mr() -> Pixels:
    return _grey(_first_frame(pydicom.examples.mr))


def _mr_abdomen() -> Pixels:
    return _grey(_first_frame(pydicom.examples.overlay))


# The ultrasound pictures are cropped to their tissue: around it there is writing, which no question is about.
def _ultrasound_rgb() -> Pixels:
    return np.asarray(_first_frame(pydicom.examples.rgb_color), dtype=np.uint8)[55:168, 38:292]


def _ultrasound_ybr() -> Pixels:
    frame = _first_frame(pydicom.examples.ybr_color)  # RGB already: pydicom converts on decoding
    return np.asarray(frame, dtype=np.uint8)[15:225, 40:280]


def _ultrasound_palette() -> Pixels:
    dataset = pydicom.examples.palette_color
    coloured = np.asarray(apply_color_lut(dataset.pixel_array, dataset), dtype=np.float64)
    scaled = (coloured / max(coloured.max(), 1) * 255).round().astype(np.uint8)
    return scaled[65:150, 330:600]


def _histology() -> Pixels:
    return np.asarray(skimage.data.immunohistochemistry(), dtype=np.uint8)


def _fundus() -> Pixels:
    return np.asarray(skimage.data.retina(), dtype=np.uint8)


def _microaneurysms() -> Pixels:
    return _grey(skimage.data.microaneurysms())


def _phantom() -> Pixels:
    return _grey(skimage.data.shepp_logan_phantom())


SOURCES: Mapping[str, SourcePicture] = {
    source.name: source
    for source in (
        SourcePicture("ct", "ct", "grey", PYDICOM, _ct),
        SourcePicture("mr", "mr", "grey", PYDICOM, _mr),
        SourcePicture("mr_abdomen", "mr", "grey", PYDICOM, _mr_abdomen),
        SourcePicture("ultrasound_rgb", "ultrasound", "orange", PYDICOM, _ultrasound_rgb),
        SourcePicture("ultrasound_ybr", "ultrasound", "grey", PYDICOM, _ultrasound_ybr),
        SourcePicture("ultrasound_palette", "ultrasound", "grey", PYDICOM, _ultrasound_palette),
        SourcePicture("histology", "histology", "brown", "no known copyright restrictions (CMMI)", _histology),
        SourcePicture("fundus", "fundus", "red", "CC0 1.0 (M. Häggström, Wikimedia Commons)", _fundus),
        SourcePicture("microaneurysms", "fundus", "grey", "CC0 (HRF image database, A. Maier)", _microaneurysms, True),
        SourcePicture("phantom", "phantom", "grey", "BSD-3-Clause (computed; comes with scikit-image)", _phantom, True),
    )
}


@lru_cache(maxsize=16)
def source_pixels(name: str) -> Pixels:
    """The picture as 8-bit RGB [height, width, 3]."""
    return SOURCES[name].load()


def region(height: int, width: int, split: Split) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of a split: the left half is train, the upper 45 % of the right half tune, the rest held out."""
    middle, line = width // 2, int(height * 0.45)
    match split:
        case Split.TRAIN:
            return 0, 0, middle, height
        case Split.TUNE:
            return middle, 0, width, line
        case Split.HELD_OUT:
            return middle, line, width, height


def tile_edge(height: int, width: int) -> int:
    """Edge of a picture's tiles in source pixels: the same for all splits, as large as the narrowest region allows."""
    boxes = [region(height, width, split) for split in Split]
    narrowest = min(min(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes)
    return min(LARGEST_TILE, int(narrowest * TILE_TO_REGION))


def draw_tile(modality: str, split: Split, rng: random.Random) -> Tile:
    """A random tile of a modality within its split's region that is neither mostly black nor flat."""
    names = [source.name for source in SOURCES.values() if source.modality == modality]
    for _ in range(ATTEMPTS):
        name = rng.choice(names)
        pixels = source_pixels(name)
        height, width = pixels.shape[:2]
        x0, y0, x1, y1 = region(height, width, split)
        edge = tile_edge(height, width)
        tile = Tile(name, split, rng.randint(x0, x1 - edge), rng.randint(y0, y1 - edge), edge)
        grey = pixels[tile.y : tile.y + edge, tile.x : tile.x + edge].mean(axis=2)
        if (grey < 12).mean() <= MAX_DARK_RATIO and grey.std() >= MIN_DEVIATION:
            return tile
    raise DataError(f"no usable {modality} tile for {split} in {ATTEMPTS} attempts", "pictures with some content there")


@lru_cache(maxsize=4096)
def cut_tile(tile: Tile, size: int) -> Pixels:
    """The tile's pixels, scaled to [size, size, 3]; shared between callers, so not to be written to."""
    square = source_pixels(tile.source)[tile.y : tile.y + tile.edge, tile.x : tile.x + tile.edge]
    if tile.edge == size:
        return square
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC), dtype=np.uint8)


def check_disjoint(tiles: Iterable[Tile]) -> None:
    """Raise DataError where a source pixel lies in tiles of two splits; looks at the pixels, not at the regions."""
    owners: dict[str, npt.NDArray[np.int8]] = {}
    codes = {split: code for code, split in enumerate(Split, start=1)}
    for tile in sorted(set(tiles), key=lambda tile: (tile.source, tile.x, tile.y, tile.split)):
        owner = owners.setdefault(tile.source, np.zeros(source_pixels(tile.source).shape[:2], dtype=np.int8))
        square = owner[tile.y : tile.y + tile.edge, tile.x : tile.x + tile.edge]
        if np.any((square != 0) & (square != codes[tile.split])):
            raise DataError(
                f"the tile {tile.key} of {tile.split} shares source pixels with another split",
                "regions without overlap",
                "this is a fault of Residency: please report it",
            )
        square[:] = codes[tile.split]
