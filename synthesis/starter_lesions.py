"""Drawn lesions: soft round spots of known geometry, one in a cell of a 4 × 4 grid over the tile."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from residency.synthesis.starter_sources import Pixels

GRID_CELLS = 4
COUNT_WEIGHTS = {0: 0.3, 1: 0.46, 2: 0.12, 3: 0.12}
RADII = {"small": (0.34, 0.38), "large": (0.46, 0.49)}  # of a cell's edge
CONTRAST = (105.0, 145.0)  # grey levels added or taken
TINTS = {
    "bright": (1.0, 0.9, 0.0),
    "dark": (-1.0, -0.8, 0.0),
}  # yellowish and bluish: a share of the contrast a channel
BRIGHT_BELOW = 128.0  # darker ground takes a bright spot, lighter ground a dark one


@dataclass(frozen=True, slots=True)
class Lesion:
    """One spot; column and row from 0, centre and radii relative to the tile's edge, tone ``bright`` or ``dark``."""

    column: int
    row: int
    x: float
    y: float
    radius_x: float
    radius_y: float
    size: str
    tone: str
    contrast: float

    @property
    def quarter_box(self) -> list[float]:
        """The quarter of the tile that holds it, as [x0, y0, x1, y1] in 0–1 with corners at multiples of 0.5."""
        half = GRID_CELLS // 2
        x0, y0 = self.column // half * 0.5, self.row // half * 0.5
        return [x0, y0, x0 + 0.5, y0 + 0.5]

    @property
    def side(self) -> str:
        return "left" if self.column < GRID_CELLS // 2 else "right"


def place_lesions(ground: Pixels, rng: random.Random) -> tuple[Lesion, ...]:
    """None to three lesions in cells of their own; each contrasts with the ground beneath it."""
    count = rng.choices(list(COUNT_WEIGHTS), weights=list(COUNT_WEIGHTS.values()))[0]
    cells = rng.sample([(column, row) for column in range(GRID_CELLS) for row in range(GRID_CELLS)], count)
    return tuple(_place(ground, column, row, rng) for column, row in cells)


def _place(ground: Pixels, column: int, row: int, rng: random.Random) -> Lesion:
    step = 1 / GRID_CELLS
    size = rng.choice(sorted(RADII))
    radius_x, radius_y = (rng.uniform(*RADII[size]) * step for _ in range(2))
    slack_x, slack_y = step / 2 - radius_x, step / 2 - radius_y
    x = (column + 0.5) * step + rng.uniform(-slack_x, slack_x)
    y = (row + 0.5) * step + rng.uniform(-slack_y, slack_y)
    edge = ground.shape[0]
    patch = ground[
        int((y - radius_y) * edge) : int((y + radius_y) * edge) + 1,
        int((x - radius_x) * edge) : int((x + radius_x) * edge) + 1,
    ]
    tone = "bright" if float(patch.mean()) < BRIGHT_BELOW else "dark"
    return Lesion(column, row, x, y, radius_x, radius_y, size, tone, rng.uniform(*CONTRAST))


def draw_lesions(ground: Pixels, lesions: Sequence[Lesion]) -> Pixels:
    """The tile [E, E, 3] with its lesions; their edge is soft over about two pixels."""
    edge = ground.shape[0]
    drawn = ground.astype(np.float64)
    rows_E1, columns_1E = np.mgrid[0:edge, 0:1][0] + 0.5, np.mgrid[0:1, 0:edge][1] + 0.5
    for lesion in lesions:
        across = (columns_1E / edge - lesion.x) / lesion.radius_x
        down = (rows_E1 / edge - lesion.y) / lesion.radius_y
        distance_EE = (np.sqrt(across**2 + down**2) - 1) * min(lesion.radius_x, lesion.radius_y) * edge  # pixels
        cover_EE1 = np.clip(0.5 - distance_EE / 2, 0, 1)[..., None]
        drawn += cover_EE1 * lesion.contrast * np.asarray(TINTS[lesion.tone])
    return np.clip(drawn, 0, 255).round().astype(np.uint8)
