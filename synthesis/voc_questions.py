"""Closed questions about a window of an annotated picture, with the facts that its boxes show.

Four rules: ``type`` (what lies in the centre), ``present``, ``count`` and ``side``. A window is used only where the
boxes settle the answer: a thing that is half cut off is neither present nor absent, and gives no question.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from residency.platform.records import AnswerKind, Family
from residency.synthesis.drafts import Draft
from residency.synthesis.voc_crops import SeenBox, Window, see, windows_anywhere, windows_around
from residency.synthesis.voc_reader import VocImage

SHIFTS, COMMON_SHIFTS, WINDOWS = 6, 2, 60  # windows around each box, of the commonest class, anywhere in a picture
LARGEST_COUNT = 4
CLEARLY_SEEN, CLEARLY_CUT, CENTRED = 0.65, 0.35, 0.7  # visible share of a box
OFF_CENTRE = 0.12  # of the window: nearer to its middle, a thing is on neither side
SMALL_BELOW, MEDIUM_BELOW = 0.3, 0.6  # of the window's edge
RULE_SHARES = {"type": 0.2, "present": 0.35, "count": 0.15, "side": 0.3}


@dataclass(frozen=True, slots=True)
class Naming:
    """How classes are called: ``words`` by class; ``tasks`` by (rule, class), else the generic ``object_`` tasks.

    ``stains`` (class → word) adds the stain to the facts of ``type``.
    """

    words: Mapping[str, str]
    thing: str = "object"
    stains: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def task(self, rule: str, name: str = "") -> str:
        return self.tasks.get((rule, name), f"object_{rule}")


def name_classes(images: Iterable[VocImage]) -> Naming:
    """The naming of any VOC folder: its class names in lower case, with spaces."""
    names = sorted({box.name for image in images for box in image.boxes})
    return Naming({name: name.replace("_", " ").replace("-", " ").lower() for name in names})


@dataclass(frozen=True, slots=True)
class ClassRoles:
    """Which class is counted (the commonest), and which are asked for by presence and side (the others)."""

    counted: str
    sought: tuple[str, ...]

    @classmethod
    def of(cls, images: Iterable[VocImage]) -> "ClassRoles":
        counts = Counter(box.name for image in images for box in image.boxes)
        counted, *others = sorted(counts, key=lambda name: (-counts[name], name))
        return cls(counted, tuple(sorted(others)) or (counted,))


def task_shares(naming: Naming, roles: ClassRoles) -> dict[str, float]:
    """Share of each task; a rule's share is divided among its classes."""
    shares: dict[str, float] = {}
    for rule, share in RULE_SHARES.items():
        names = {"type": ("",), "count": (roles.counted,)}.get(rule, roles.sought)
        if rule == "type" and len(naming.words) < 2:
            continue
        for name in names:
            task = naming.task(rule, name)
            shares[task] = shares.get(task, 0.0) + share / len(names)
    return shares


def draft_questions(image: VocImage, naming: Naming, roles: ClassRoles, seed: int) -> list[Draft]:
    """All questions that can be asked of windows of one picture; the same seed gives the same drafts."""
    rng = random.Random(f"{seed} {image.stem}")
    drafts: dict[str, Draft] = {}
    central: list[Window] = []
    sought: list[Window] = []
    for box in image.boxes:
        windows = list(windows_around(image, box, SHIFTS if box.name in roles.sought else COMMON_SHIFTS, rng))
        central.extend(windows)
        sought.extend(windows if box.name in roles.sought else [])
    for window in central:
        for draft in _ask_type(_look(image, window), naming):
            _keep(drafts, draft, image, window)
    for window in [*windows_anywhere(image, WINDOWS, rng), *sought]:
        seen = _look(image, window)
        for draft in _ask_rest(seen, naming, roles):
            _keep(drafts, draft, image, window)
    return list(drafts.values())


@dataclass(frozen=True, slots=True)
class _Asked:
    rule: str
    name: str
    question: str
    answer: str
    kind: AnswerKind
    facts: Mapping[str, str]
    options: tuple[str, ...] = ()
    seen: Sequence[SeenBox] = ()
    task: str = ""


def _keep(drafts: dict[str, Draft], asked: _Asked, image: VocImage, window: Window) -> None:
    row_key = f"{image.stem}:{window.key}:{asked.rule}:{asked.name}"
    drafts[row_key] = Draft(
        task=asked.task,
        family=Family.MEDICAL_MULTIMODAL if not asked.task.startswith("object_") else Family.GENERAL_MULTIMODAL,
        question=asked.question,
        options=asked.options,
        answer=asked.answer,
        answer_kind=asked.kind,
        facts=asked.facts,
        annotations={
            "image": image.stem,
            "window": [window.x, window.y, window.edge],
            "boxes": [
                {"name": box.name, "box": [round(v, 3) for v in (box.x0, box.y0, box.x1, box.y1)]} for box in asked.seen
            ],
        },
        cluster=image.stem,
        row_key=row_key,
        picture=f"{image.stem}:{window.key}",
        balance_by=f"{asked.name}:{asked.answer}",
    )


def _look(image: VocImage, window: Window) -> list[SeenBox]:
    seen = (see(box, window) for box in image.boxes)
    return [box for box in seen if box is not None]


def _size(extent: float) -> str:
    return "small" if extent < SMALL_BELOW else "medium" if extent < MEDIUM_BELOW else "large"


def _quarter(position: float) -> str:
    return str(min(int(position * 4), 3) + 1)


def _ask_type(seen: Sequence[SeenBox], naming: Naming) -> Iterator[_Asked]:
    in_centre = [box for box in seen if box.covers(0.5, 0.5)]
    if len(naming.words) < 2 or len(in_centre) != 1 or in_centre[0].visible < CENTRED:
        return
    box = in_centre[0]
    others = sum(other.visible > 0.5 for other in seen) - 1
    facts = {"stain": naming.stains[box.name]} if naming.stains else {}
    facts |= {"size": _size(box.extent), "crowd": "few" if others < 2 else "some" if others < 4 else "many"}
    yield _Asked(
        "type", "", f"what is the {naming.thing} in the centre ?", naming.words[box.name], AnswerKind.CHOICE, facts,
        tuple(naming.words[name] for name in sorted(naming.words)), seen, naming.task("type"),
    )  # fmt: skip


def _ask_rest(seen: Sequence[SeenBox], naming: Naming, roles: ClassRoles) -> Iterator[_Asked]:
    for name in roles.sought:
        of_class = [box for box in seen if box.name == name]
        yield from _ask_present(name, of_class, seen, naming)
        yield from _ask_side(name, of_class, seen, naming)
    yield from _ask_count(roles.counted, [box for box in seen if box.name == roles.counted], seen, naming)


def _ask_present(name: str, of_class: Sequence[SeenBox], seen: Sequence[SeenBox], naming: Naming) -> Iterator[_Asked]:
    clear = [box for box in of_class if box.visible >= CLEARLY_SEEN]
    if of_class and not clear:
        return
    facts = {"size": "none", "column": "none"}
    if clear:
        largest = max(clear, key=lambda box: (box.extent, box.x0))
        facts = {"size": _size(largest.extent), "column": _quarter(largest.centre[0])}
    answer = "yes" if clear else "no"
    question = f"is there a {naming.words[name]} ?"
    yield _Asked("present", name, question, answer, AnswerKind.YES_NO, facts, (), seen, naming.task("present", name))


def _ask_side(name: str, of_class: Sequence[SeenBox], seen: Sequence[SeenBox], naming: Naming) -> Iterator[_Asked]:
    if len(of_class) != 1 or of_class[0].visible < CLEARLY_SEEN:
        return
    x, y = of_class[0].centre
    if abs(x - 0.5) < OFF_CENTRE:
        return
    facts = {"height": "upper" if y < 0.5 else "lower", "column": _quarter(x)}
    question = f"is the {naming.words[name]} on the left or on the right ?"
    answer = "left" if x < 0.5 else "right"
    yield _Asked(
        "side", name, question, answer, AnswerKind.CHOICE, facts, ("left", "right"), seen, naming.task("side", name)
    )


def _ask_count(name: str, of_class: Sequence[SeenBox], seen: Sequence[SeenBox], naming: Naming) -> Iterator[_Asked]:
    if any(CLEARLY_CUT < box.visible < CLEARLY_SEEN for box in of_class):
        return
    whole = [box for box in of_class if box.visible >= CLEARLY_SEEN]
    if len(whole) > LARGEST_COUNT or any(abs(box.centre[0] - 0.5) < 0.02 for box in whole):
        return
    left = sum(box.centre[0] < 0.5 for box in whole)
    facts = {"left": str(left), "right": str(len(whole) - left)}
    question = f"how many {naming.words[name]}s are mostly inside ?"
    answer = str(len(whole))
    yield _Asked("count", name, question, answer, AnswerKind.NUMBER, facts, (), seen, naming.task("count", name))
