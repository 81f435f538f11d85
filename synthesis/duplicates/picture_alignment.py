"""Whether two pictures with similar hashes are one picture: aligned, made equally bright, and compared place by place.

Pictures of one organ resemble each other more than a copy resembles its cropped original, so a hash alone confuses
them. After alignment a copy differs by noise that averages out in every part; another patient, another slice or a
lesion leaves a part that differs. Alignment is Gauss–Newton (Lucas and Kanade 1981) over scale and shift of each
axis, brightness and contrast. Legend: P pairs, S pixels of a side.
"""

import numpy as np
from numpy.typing import NDArray

SIDE = 32
COARSE_SIDE, COARSE_STEPS, FINE_STEPS = 16, 4, 3
COARSE_LIMIT = 0.6  # what is further apart than this at half the size is not looked at closely
PARTS = 8  # parts of a side in which the difference is averaged
MAX_CROP = 0.15  # what an alignment may cut off or shift
BATCH = 256
Floats = NDArray[np.float32]


def prepared(thumbnails: NDArray[np.uint8]) -> Floats:
    """[P, 48, 48] grey values → [P, SIDE, SIDE], smoothed so that compression leaves little."""
    grey = thumbnails.astype(np.float32)
    edge = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    smooth = np.zeros_like(grey)
    for y in range(3):
        for x in range(3):
            smooth += edge[:, y : y + grey.shape[1], x : x + grey.shape[2]] / np.float32(9)
    places = (np.arange(SIDE, dtype=np.float32) + 0.5) * grey.shape[1] / SIDE - 0.5
    left = np.floor(places).astype(int).clip(0, grey.shape[1] - 2)
    part = (places - left).astype(np.float32)
    smooth = smooth[:, left] * (1 - part)[:, None] + smooth[:, left + 1] * part[:, None]
    return smooth[:, :, left] * (1 - part) + smooth[:, :, left + 1] * part


def residual(a: Floats, b: Floats) -> Floats:
    """How far each b, moved and scaled onto a, differs from it in its worst part, in standard deviations of a.

    [P, SIDE, SIDE] twice → [P]; inf where nothing within ``MAX_CROP`` fits. A copy is below about 0.2.
    """
    return np.concatenate(
        [_residual(a[at : at + BATCH], b[at : at + BATCH]) for at in range(0, len(a), BATCH)]
        or [np.zeros(0, np.float32)]
    )


def _residual(a: Floats, b: Floats) -> Floats:
    small_a, small_b = _standard(_halved(a)), _standard(_halved(b))
    moves = _aligned(small_a, small_b, np.zeros((len(a), 4), np.float32), COARSE_STEPS)
    worst = _worst_part(small_a, small_b, moves)
    near = np.flatnonzero(worst < COARSE_LIMIT)
    result = np.full(len(a), np.inf, np.float32)
    if len(near):
        fine_a, fine_b = _standard(a[near]), _standard(b[near])
        result[near] = _worst_part(fine_a, fine_b, _aligned(fine_a, fine_b, moves[near], FINE_STEPS))
    return result


def _halved(a: Floats) -> Floats:
    return a.reshape(len(a), COARSE_SIDE, SIDE // COARSE_SIDE, COARSE_SIDE, SIDE // COARSE_SIDE).mean(axis=(2, 4))


def _standard(a: Floats) -> Floats:
    spread = a.std(axis=(1, 2), keepdims=True) + np.float32(1e-3)
    return (a - a.mean(axis=(1, 2), keepdims=True)) / spread


def _places(moves: Floats, side: int) -> tuple[Floats, Floats]:
    """Columns and rows [P, S] at which b must be read: moves are stretch x, shift x, stretch y, shift y."""
    centre = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    x = (0.5 + centre * (1 + moves[:, 0, None]) + moves[:, 1, None]) * side - 0.5
    y = (0.5 + centre * (1 + moves[:, 2, None]) + moves[:, 3, None]) * side - 0.5
    return x.astype(np.float32), y.astype(np.float32)


def _sampled(b: Floats, x: Floats, y: Floats) -> Floats:
    """Bilinear values of b at columns x and rows y: [P, S, S]."""
    side = b.shape[1]
    x, y = x.clip(0, side - 1.001), y.clip(0, side - 1.001)
    x0, y0 = x.astype(int), y.astype(int)
    fx, fy = (x - x0)[:, None, :], (y - y0)[:, :, None]
    which = np.arange(len(b))[:, None, None]
    top, left = y0[:, :, None], x0[:, None, :]
    upper = b[which, top, left] * (1 - fx) + b[which, top, left + 1] * fx
    lower = b[which, top + 1, left] * (1 - fx) + b[which, top + 1, left + 1] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)


def _inside(x: Floats, y: Floats, side: int) -> Floats:
    """1 where b has something to compare with, [P, S·S]: a crop lacks its original's edges."""
    both = ((y > -0.5) & (y < side - 0.5))[:, :, None] & ((x > -0.5) & (x < side - 0.5))[:, None, :]
    return both.reshape(len(x), -1).astype(np.float32)


def _aligned(a: Floats, b: Floats, moves: Floats, steps: int) -> Floats:
    number, side = len(a), a.shape[1]
    centre = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    dy, dx = np.gradient(b, axis=(1, 2))
    target, ones = a.reshape(number, -1), np.ones((number, side * side), np.float32)
    for _ in range(steps):
        x, y = _places(moves, side)
        moved = _sampled(b, x, y).reshape(number, -1)
        slope_x, slope_y = _sampled(dx, x, y) * side, _sampled(dy, x, y) * side
        columns = (slope_x * centre, slope_x, slope_y * centre[:, None], slope_y)
        slopes = np.stack([*(column.reshape(number, -1) for column in columns), moved, ones], axis=1)  # [P, 6, S·S]
        weighted = slopes * _inside(x, y, side)[:, None]
        normal = weighted @ slopes.transpose(0, 2, 1)
        # a flat picture has no slopes: a little of the diagonal keeps the system solvable
        ridge = normal.trace(axis1=1, axis2=2) * np.float32(1e-5) + np.float32(1e-3)
        normal += np.eye(6, dtype=np.float32) * ridge[:, None, None]
        step = np.linalg.solve(normal, weighted @ (target - moved)[:, :, None])[:, :4, 0]
        moves = moves + step.clip(-0.05, 0.05)
    return moves


def _worst_part(a: Floats, b: Floats, moves: Floats) -> Floats:
    """The largest mean difference within one of 8×8 parts once b's grey values are mapped onto a's by a cubic."""
    number, side = len(a), a.shape[1]
    x, y = _places(moves, side)
    moved, weight = _sampled(b, x, y).reshape(number, -1), _inside(x, y, side)
    target = a.reshape(number, -1)
    powers = np.stack([np.ones_like(moved), moved, moved**2, moved**3], axis=1)  # [P, 4, S·S]
    weighted = powers * weight[:, None]
    normal = weighted @ powers.transpose(0, 2, 1) + np.eye(4, dtype=np.float32) * np.float32(1e-2)
    tone = np.linalg.solve(normal, weighted @ target[:, :, None])
    difference = (target - (tone.transpose(0, 2, 1) @ powers)[:, 0]) * weight
    shape = (number, PARTS, side // PARTS, PARTS, side // PARTS)
    covered = weight.reshape(shape).sum(axis=(2, 4))
    parts = np.abs(difference.reshape(shape).sum(axis=(2, 4))) / np.maximum(covered, 1)
    parts[covered < (side // PARTS) ** 2 / 2] = 0
    worst = parts.max(axis=(1, 2))
    lost = (np.abs(moves).max(axis=1) > MAX_CROP) | ~np.isfinite(worst)
    return np.where(lost, np.float32(np.inf), worst).astype(np.float32)
