"""Boxes as JSON in relative coordinates, paired optimally; right where the mean IoU of the pairs is at least 0.5."""

import json
import math
from functools import lru_cache
from typing import Any, TypeGuard

from residency.platform.errors import DataError
from residency.platform.verifiers.finding import Finding

Box = tuple[float, float, float, float]
THRESHOLD = 0.5
MAX_BOXES = 64  # pairing costs the cube of it


def _is_box(value: Any) -> TypeGuard[list[float]]:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in value)
        and value[0] < value[2]
        and value[1] < value[3]
    )


@lru_cache(maxsize=8192)
def read_boxes(text: str) -> tuple[Box, ...] | str | None:
    """The boxes of a text (`[[x0,y0,x1,y1],…]` or one box); None without a JSON list, a reason for a bad one."""
    joined = "".join(text.split())  # a word-level tokenizer writes `0 . 25 , 0 . 5`
    start, end = joined.find("["), joined.rfind("]")
    if not 0 <= start < end:
        return None
    try:
        value: Any = json.loads(joined[start : end + 1])
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and value and not isinstance(value[0], list):
        value = [value]
    if not value:
        return ()
    if len(value) > MAX_BOXES:
        return f"{len(value)} boxes, at most {MAX_BOXES}"
    boxes: list[Box] = []
    for box in value:
        if not _is_box(box):
            return f"{str(box)[:60]} is no box x0 < x1, y0 < y1 in 0–1"
        boxes.append((float(box[0]), float(box[1]), float(box[2]), float(box[3])))
    return tuple(boxes)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def mean_iou(said: tuple[Box, ...], wanted: tuple[Box, ...]) -> float:
    """Mean IoU of the best pairing; a box without a partner, on either side, counts as 0. Two empty lists agree (1)."""
    if not said or not wanted:
        return float(said == wanted)
    if len(said) == len(wanted) == 1:
        return iou(said[0], wanted[0])
    from scipy.optimize import linear_sum_assignment

    table = [[iou(a, b) for b in wanted] for a in said]
    rows, columns = linear_sum_assignment(table, maximize=True)
    return math.fsum(table[r][c] for r, c in zip(rows, columns, strict=True)) / max(len(said), len(wanted))


def judge_box(answer: str, span: str) -> Finding:
    """Raises DataError where ``answer`` is no JSON list of boxes."""
    wanted = read_boxes(answer)
    if wanted is None or isinstance(wanted, str):
        raise DataError(f"the answer {answer!r} of a box question: {wanted or 'no JSON list'}", "[[x0, y0, x1, y1], …]")
    said = read_boxes(span)
    if said is None:
        return Finding(None, "no JSON list of boxes")
    if isinstance(said, str):
        return Finding(0.0, said, {"iou": 0.0})
    overlap = mean_iou(said, wanted)
    rule = f"mean IoU {overlap:.3f} of {len(said)} boxes with {len(wanted)}, right from {THRESHOLD}"
    return Finding(float(overlap >= THRESHOLD), rule, {"iou": overlap})
