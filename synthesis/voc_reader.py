"""A Pascal VOC folder (``Annotations``, ``ImageSets/Main``, ``JPEGImages``), read and checked whole before use."""

import hashlib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from residency.platform.errors import DataError
from residency.platform.media_store import load_image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
NO_AREA = "box without area"
REPEATED = "picture of the train list that is also in the val list"


@dataclass(frozen=True, slots=True)
class VocBox:
    """One annotated box in pixels of the picture, ``x0 < x1`` and ``y0 < y1``."""

    name: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class VocImage:
    """One annotated picture; ``width`` and ``height`` in pixels, ``digest`` the SHA-256 of the file."""

    stem: str
    path: Path
    width: int
    height: int
    digest: str
    boxes: tuple[VocBox, ...]


@dataclass(frozen=True, slots=True)
class VocFolder:
    """The two lists of a VOC folder, its licence, and what was left out, counted by reason."""

    name: str
    licence: str
    train: tuple[VocImage, ...]
    val: tuple[VocImage, ...]
    skipped: Mapping[str, int]


def read_voc(source: Path) -> VocFolder:
    """Read and check every annotation and picture that the lists name (all pictures are decoded once).

    Boxes without area are skipped and counted. Raises DataError naming the file for a missing list, annotation or
    picture, a corrupt picture, another picture size than annotated, or a box outside its picture.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder", "a Pascal VOC folder", "give the folder that holds Annotations/")
    skipped: Counter[str] = Counter()
    stems = {name: _read_list(source / "ImageSets" / "Main" / f"{name}.txt") for name in ("train", "val")}
    both = sorted(set(stems["train"]) & set(stems["val"]))
    if both:
        raise DataError(
            f"{both[0]} is in train.txt and in val.txt of {source} ({len(both)} such pictures)",
            "each picture in one list",
            "take it out of one of the two lists",
        )
    val = tuple(_read_image(source, stem, skipped) for stem in stems["val"])
    train = tuple(_read_image(source, stem, skipped) for stem in stems["train"])
    held_out = {image.digest for image in val}
    skipped[REPEATED] += sum(image.digest in held_out for image in train)
    train = tuple(image for image in train if image.digest not in held_out)
    return VocFolder(source.resolve().name, _read_licence(source), train, val, dict(+skipped))


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist",
            "the lists train.txt and val.txt, one picture name a line",
            "write them; val becomes the held-out split",
        ) from None
    stems = sorted({line.split()[0] for line in lines if line.strip()})
    if not stems:
        raise DataError(f"{path} is empty", "one picture name a line")
    for stem in stems:
        if "/" in stem or "\\" in stem or stem.startswith("."):
            raise DataError(f"{path} names {stem!r}", "a picture's name without folder or ending")
    return stems


def _read_image(source: Path, stem: str, skipped: Counter[str]) -> VocImage:
    annotation = source / "Annotations" / f"{stem}.xml"
    parsed = read_annotation(annotation, skipped)
    path = next((p for s in IMAGE_SUFFIXES if (p := source / "JPEGImages" / f"{stem}{s}").is_file()), None)
    if path is None:
        raise DataError(
            f"the picture of {annotation} is missing: there is no {source / 'JPEGImages' / stem}.jpg (or .jpeg, .png)",
            "",
            f"put it there, or take {stem} out of the lists",
        )
    seen = load_image(path).size
    if seen != (parsed.width, parsed.height):
        raise DataError(
            f"{path} has {seen[0]}×{seen[1]} pixels",
            f"{parsed.width}×{parsed.height}, as {annotation} says",
            "the boxes would not fit: correct the annotation's size, or restore the picture",
        )
    return replace(parsed, path=path, digest=hashlib.sha256(path.read_bytes()).hexdigest())


def read_annotation(path: Path, skipped: Counter[str]) -> VocImage:
    """One annotation file, without its picture; counts boxes without area in ``skipped``."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"the annotation {path} does not exist", "", f"restore it, or take {path.stem} out of the lists"
        ) from None
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise DataError(f"{path} declares a document type", "plain VOC XML", "remove the declaration")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is not XML ({error})", "a Pascal VOC annotation", "repair or replace it") from error
    width, height = int(_number(root, "size/width", path)), int(_number(root, "size/height", path))
    boxes = []
    for rank, node in enumerate(root.iter("object"), start=1):
        where = f"box {rank} of {path}"
        name = (node.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{where} has no name", "a class name")
        x0, y0, x1, y1 = (_number(node, f"bndbox/{key}", path) for key in ("xmin", "ymin", "xmax", "ymax"))
        shown = f"{name} ({x0:g}, {y0:g})–({x1:g}, {y1:g})"
        if not (0 <= x0 <= width and 0 <= x1 <= width and 0 <= y0 <= height and 0 <= y1 <= height):
            raise DataError(
                f"{where}, {shown}, lies outside the picture of {width}×{height} pixels",
                f"0 ≤ x ≤ {width} and 0 ≤ y ≤ {height}",
                "correct its corners or remove the box",
            )
        if x1 < x0 or y1 < y0:
            raise DataError(f"{where}, {shown}, has its corners swapped", "xmin < xmax and ymin < ymax", "swap them")
        if x1 == x0 or y1 == y0:
            skipped[NO_AREA] += 1
            continue
        boxes.append(VocBox(name, x0, y0, x1, y1))
    return VocImage(path.stem, Path(), width, height, "", tuple(boxes))


def _number(node: ElementTree.Element, key: str, path: Path) -> float:
    text = node.findtext(key)
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{path} has {key} = {text!r}", "a number of pixels", "correct the annotation") from None


def _read_licence(source: Path) -> str:
    for name in ("LICENSE", "LICENSE.txt", "LICENCE", "LICENSE.md"):
        if (source / name).is_file():
            first = next((line.strip() for line in (source / name).read_text().splitlines() if line.strip()), "")
            return first or "unknown (the licence file is empty)"
    return "unknown (no licence file in the folder)"
