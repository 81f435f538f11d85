"""Windows cut out of an annotated picture, and what of its boxes can be seen in them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from residency.synthesis.voc_reader import VocBox, VocImage

WINDOW_RATIO = 0.3  # of the picture's shorter side: a small thing must not fall into a part of one image patch
STEP = 4  # pixels between neighbouring windows
SHIFT_RATIO = 0.08  # of the window: how far a box may lie from the centre of the window cut around it


@dataclass(frozen=True, slots=True)
class Window:
    """A square of the picture: left and upper corner and edge, in pixels."""

    x: int
    y: int
    edge: int

    @property
    def key(self) -> str:
        return f"{self.x},{self.y},{self.edge}"


@dataclass(frozen=True, slots=True)
class SeenBox:
    """The part of a box inside a window: corners relative to the window (0–1), and the visible share of its area."""

    name: str
    x0: float
    y0: float
    x1: float
    y1: float
    visible: float

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    @property
    def extent(self) -> float:
        return max(self.x1 - self.x0, self.y1 - self.y0)

    def covers(self, x: float, y: float) -> bool:
        return self.x0 <= x <= self.x1 and self.y0 <= y <= self.y1


def see(box: VocBox, window: Window) -> SeenBox | None:
    """What of a box is inside the window; None where nothing is."""
    x0, x1 = max(box.x0, window.x), min(box.x1, window.x + window.edge)
    y0, y1 = max(box.y0, window.y), min(box.y1, window.y + window.edge)
    if x1 <= x0 or y1 <= y0:
        return None
    share = (x1 - x0) * (y1 - y0) / ((box.x1 - box.x0) * (box.y1 - box.y0))
    left, upper, edge = window.x, window.y, window.edge
    return SeenBox(box.name, (x0 - left) / edge, (y0 - upper) / edge, (x1 - left) / edge, (y1 - upper) / edge, share)


def window_edge(image: VocImage) -> int:
    """Edge of this picture's windows in pixels."""
    return max(STEP, int(min(image.width, image.height) * WINDOW_RATIO))


def _window_at(image: VocImage, x: float, y: float) -> Window:
    edge = window_edge(image)
    left = min(max(round(x / STEP) * STEP, 0), image.width - edge)
    upper = min(max(round(y / STEP) * STEP, 0), image.height - edge)
    return Window(left, upper, edge)


def windows_around(image: VocImage, box: VocBox, count: int, rng: random.Random) -> Iterator[Window]:
    """Windows with the box near their centre, each shifted a little; at the picture's border it may be off centre."""
    edge = window_edge(image)
    for _ in range(count):
        x = (box.x0 + box.x1 - edge) / 2 + rng.uniform(-SHIFT_RATIO, SHIFT_RATIO) * edge
        y = (box.y0 + box.y1 - edge) / 2 + rng.uniform(-SHIFT_RATIO, SHIFT_RATIO) * edge
        yield _window_at(image, x, y)


def windows_anywhere(image: VocImage, count: int, rng: random.Random) -> Iterator[Window]:
    """Windows spread evenly at random over the picture."""
    edge = window_edge(image)
    for _ in range(count):
        yield _window_at(image, rng.uniform(0, image.width - edge), rng.uniform(0, image.height - edge))


def cut(picture: Image.Image, window: Window, size: int) -> Image.Image:
    """The window of the picture, scaled to ``size`` × ``size`` pixels."""
    region = (window.x, window.y, window.x + window.edge, window.y + window.edge)
    return picture.crop(region).resize((size, size), Image.Resampling.BICUBIC)
