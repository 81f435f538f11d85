"""Boxes as JSON in relative coordinates, paired optimally; right where the mean IoU of the pairs is at least 0.5.

GIoU is that of Rezatofighi et al. 2019 (arXiv 1902.09630, Algorithm 1), from -1 to 1; as a part of a verdict, which
is 0–1, it is written as (1 + mean GIoU) / 2, a box without a partner counting as -1.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeGuard

from residency.platform.errors import DataError
from residency.platform.records import Item
from residency.platform.verifiers.finding import Finding
from residency.platform.verifiers.negation import may_deny

Box = tuple[float, float, float, float]
THRESHOLD = 0.5
ROUNDING = 1e-9
MAX_BOXES = 64  # pairing costs the cube of it
BOX_KEYS = frozenset(
    ("bbox", "bbox_2d", "box", "bounding_box", "boxes", "bboxes", "bounding_boxes", "answer", "coordinates")
)
CORNER_KEYS = (
    ("x0", "y0", "x1", "y1"), ("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"), ("left", "top", "right", "bottom"),
)  # fmt: skip
FENCE = re.compile(r"```(?:json)?|`")
UNDECIDED = re.compile(r"\b(?:or|either|alternatively|maybe)\b")
TAKEN_BACK = re.compile(r"\W*(?:is |are |was )?(?:not|wrong|incorrect|false)\b")


def _is_box(value: Any) -> TypeGuard[list[float]]:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in value)
        and value[0] < value[2]
        and value[1] < value[3]
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys stand once each; the second of two equal ones would win silently."""
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key stands twice")
    return record


def _lists_of(value: Any) -> Any:
    """The boxes that an object holds under a name for boxes or as four corners; None where it is not clear."""
    if isinstance(value, list):
        if any(isinstance(part, dict) for part in value):
            inner = [_lists_of(part) for part in value]
            return (
                inner
                if all(isinstance(part, list) and part and not isinstance(part[0], list) for part in inner)
                else None
            )
        return value
    if not isinstance(value, dict):
        return None
    named = [key for key in value if str(key).lower() in BOX_KEYS]
    if len(named) == 1:
        return _lists_of(value[named[0]])
    corners = [keys for keys in CORNER_KEYS if all(key in value for key in keys)]
    return [value[key] for key in corners[0]] if len(corners) == 1 and not named else None


@lru_cache(maxsize=8192)
def read_boxes(text: str) -> tuple[Box, ...] | str | None:
    """The boxes of a text (`[[x0,y0,x1,y1],…]`, one box, or objects with a `bbox`); None without JSON, a reason"
    " for a bad one."""
    text = FENCE.sub(" ", text)
    joined = "".join(text.split())  # a word-level tokenizer writes `0 . 25 , 0 . 5`
    start = min((i for i in (joined.find("["), joined.find("{")) if i >= 0), default=-1)
    end = max(joined.rfind("]"), joined.rfind("}"))
    if not 0 <= start < end:
        return None
    body = joined[start : end + 1]
    before, after = text[: text.find(body[0])].lower(), text[text.rfind(body[-1]) + 1 :].lower()
    if UNDECIDED.search(before) or UNDECIDED.search(after) or may_deny(before) or TAKEN_BACK.match(after):
        return None
    value: Any = None
    for candidate in (body, f"[{body.replace('][', '],[').replace('}{', '},{')}]"):
        try:
            value = json.loads(candidate, object_pairs_hook=_once)
            break
        except (ValueError, RecursionError):
            continue
    value = _lists_of(value)
    if not isinstance(value, list):
        return None
    if value and not isinstance(value[0], list):
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


def _areas(a: Box, b: Box) -> tuple[float, float]:
    """Intersection and union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = width * height if width > 0 and height > 0 else 0.0
    return both, (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes; 0 where both have no area that a float can hold."""
    both, union = _areas(a, b)
    return both / union if union > 0 else 0.0


def giou(a: Box, b: Box) -> float:
    """Generalised IoU, -1 to 1: the IoU less the share of the smallest box around both that neither covers."""
    both, union = _areas(a, b)
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    if union <= 0 or around <= 0:
        return -1.0
    return both / union - (around - union) / around


def paired(
    measure: Callable[[Box, Box], float], said: Sequence[Box], wanted: Sequence[Box], without_partner: float
) -> float:
    """Mean of the best one-to-one pairing, ``without_partner`` for each box left over. Two empty lists agree (1)."""
    if not said or not wanted:
        return 1.0 if len(said) == len(wanted) else without_partner
    if len(said) == len(wanted) == 1:
        return measure(said[0], wanted[0])
    from scipy.optimize import linear_sum_assignment

    table = [[measure(a, b) for b in wanted] for a in said]
    rows, columns = linear_sum_assignment(table, maximize=True)
    left_over = max(len(said), len(wanted)) - len(rows)
    total = math.fsum(table[r][c] for r, c in zip(rows, columns, strict=True)) + left_over * without_partner
    return total / max(len(said), len(wanted))


def mean_iou(said: Sequence[Box], wanted: Sequence[Box]) -> float:
    """Mean IoU of the best pairing; a box without a partner, on either side, counts as 0."""
    return paired(iou, said, wanted, 0.0)


def mean_giou(said: Sequence[Box], wanted: Sequence[Box]) -> float:
    """Mean GIoU of the best pairing by GIoU; a box without a partner counts as -1."""
    return paired(giou, said, wanted, -1.0)


def judge_box(item: Item, span: str) -> Finding:
    """``parts`` are iou and giou (0–1). Raises DataError where the item's answer is no JSON list of boxes."""
    wanted = read_boxes(item.answer)
    if wanted is None or isinstance(wanted, str):
        raise DataError(
            f"the answer {item.answer!r} of a box question: {wanted or 'no JSON list'}", "[[x0, y0, x1, y1], …]"
        )
    said = read_boxes(span)
    if said is None:
        return Finding(None, "no JSON list of boxes")
    if isinstance(said, str):
        return Finding(0.0, said, {"iou": 0.0, "giou": 0.0})
    overlap = mean_iou(said, wanted)
    rule = f"mean IoU {overlap:.3f} of {len(said)} boxes with {len(wanted)}, right from {THRESHOLD}"
    parts = {"iou": min(overlap, 1.0), "giou": min(max((1 + mean_giou(said, wanted)) / 2, 0.0), 1.0)}
    return Finding(float(overlap >= THRESHOLD - ROUNDING), rule, parts)
