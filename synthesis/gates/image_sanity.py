"""The gate for pictures that cannot carry a question: missing, cut off, too small, too long, blank, or shown twice."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from residency.platform.errors import DataError
from residency.platform.media_store import BROKEN, MediaStore, check_pixels
from residency.platform.records import Item
from residency.synthesis.duplicates.pictures import are_one_picture
from residency.synthesis.gates.decision import Gate, GateDecision, marked, passed, refused

GATE = "image_sanity"
MIN_SIDE = 28  # pixels: one merged patch of Qwen2.5-VL
MAX_ASPECT = 20.0
BLANK_SPREAD = 2.0  # grey values (0–255), standard deviation
BLANK_SHARE = 0.995  # of pixels within two grey values of the middle one


@dataclass(frozen=True, slots=True)
class PictureFault:
    reason: str
    evidence: str


def picture_fault(data: bytes) -> PictureFault | None:
    """What is wrong with an encoded picture; None where nothing is."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            check_pixels(image.size, "the picture")
            if min(width, height) < MIN_SIDE:
                return PictureFault("a picture that is too small", f"{width}×{height} pixels, at least {MIN_SIDE}")
            if max(width, height) > MAX_ASPECT * min(width, height):
                return PictureFault("a picture that is too long", f"{width}×{height} pixels")
            grey = np.asarray(image.convert("L"))
    except DataError as error:
        return PictureFault("a picture with too many pixels", error.seen)
    except BROKEN as error:
        return PictureFault("a broken picture file", f"{len(data)} bytes: {error}"[:160])
    near = float((np.abs(grey.astype(np.int16) - int(np.median(grey))) <= 2).mean())
    if grey.std() < BLANK_SPREAD or near > BLANK_SHARE:
        return PictureFault("a blank picture", f"grey values {grey.mean():.0f} ± {grey.std():.1f}")
    return None


def image_sanity_gate(store: MediaStore, remembered: int = 100_000) -> Gate:
    """A gate over the pictures of one store; each picture is decoded once as long as it is among the last ones."""
    known: dict[str, PictureFault | None] = {}

    def fault_of(key: str) -> PictureFault | None:
        if key not in known:
            if len(known) >= remembered:
                known.pop(next(iter(known)))
            try:
                known[key] = picture_fault(store.read_png(key))
            except DataError as error:
                known[key] = PictureFault("a missing picture", error.seen)
        return known[key]

    def gate(item: Item) -> GateDecision:
        for key in item.media:
            if fault := fault_of(key):
                return refused(GATE, fault.reason, f"{key[:12]}…: {fault.evidence}")
        if len(set(item.media)) < len(item.media):
            return marked(GATE, "one picture twice in an item", "equal files")
        if len(item.media) > 1 and (twins := _twins(item, store)):
            return marked(GATE, "one picture twice in an item", twins)
        return passed(GATE)

    return gate


def _twins(item: Item, store: MediaStore) -> str:
    pictures = [store.open_image(key) for key in item.media]
    for first in range(len(pictures)):
        for second in range(first + 1, len(pictures)):
            if are_one_picture(pictures[first], pictures[second]):
                return f"pictures {first + 1} and {second + 1}"
    return ""
