"""The gate for questions that cannot be answered as they stand: completeness and logic by rule, without a model."""

import re
from collections.abc import Iterator
from itertools import chain

from residency.platform.prompts import IMAGE_MARKER
from residency.platform.records import AnswerKind, Item
from residency.platform.verifiers.box import read_boxes
from residency.platform.verifiers.normal_form import bare, normal_form
from residency.platform.verifiers.short import gold_form
from residency.synthesis.gates.decision import GateDecision, passed, refused

GATE = "consistency"
MIN_QUESTION = 2  # letters or characters
YES_NO_OPENING = re.compile(
    r"^(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|may|might)\b(?!.*\bor\b)", re.IGNORECASE
)
WH_OPENING = re.compile(r"^(?:what|which|where|who|when|why|how|name|list|describe|count)\b", re.IGNORECASE)
OTHER_PICTURE = re.compile(r"\b(?:second|third|2nd|3rd) (?:image|picture|scan)\b|\bimages? (?:2|b)\b", re.IGNORECASE)
PICTURE_NAMED = re.compile(
    r"\b(?:in|on|of|from) (?:this|the) (?:image|picture|photo(?:graph)?|scan|x-?ray|radiograph|figure)\b"
    r"|图中|这张图|图像中",
    re.IGNORECASE,
)
YES_NO = frozenset(("yes", "no", "是", "否", "有", "没有", "无", "不是", "true", "false"))
UNUSABLE_BOX = "a box that cannot be read, leaves the image or has no area"
NUMBERS = frozenset(map(str, range(100)))
Fault = tuple[str, str]  # reason, evidence
EMPTY_ANSWERS = frozenset(("", "n/a", "na", "none given", "null", "nan", "unknown", "?", "-", "not available", "todo"))


def consistency_gate(item: Item) -> GateDecision:
    """Refuses what lacks a part or contradicts itself; the first fault found is the reason."""
    fault = next(chain(_incomplete(item), _pictures(item), _options(item), _answer(item)), None)
    return refused(GATE, *fault) if fault else passed(GATE)


def _incomplete(item: Item) -> Iterator[Fault]:
    asked = item.question.replace(IMAGE_MARKER, "")
    if sum(character.isalnum() for character in asked) < MIN_QUESTION:
        yield "no question", repr(item.question)[:80]
    if item.answer_kind is not AnswerKind.CHOICE and bare(normal_form(item.answer)) in EMPTY_ANSWERS:
        yield "no answer", repr(item.answer)[:80]


def _pictures(item: Item) -> Iterator[Fault]:
    markers = item.question.count(IMAGE_MARKER)
    if markers and markers != len(item.media):
        yield "image markers and images differ in number", f"{markers} markers, {len(item.media)} images"
    if not item.media and PICTURE_NAMED.search(item.question):
        yield "a picture is spoken of, but there is none", ""
    if len(item.media) == 1 and OTHER_PICTURE.search(item.question):
        yield "several pictures are spoken of, but there is one", ""


def _options(item: Item) -> Iterator[Fault]:
    forms = [gold_form(option) for option in item.options]
    if any(not form for form in forms):
        yield "an empty option", ""
    if len({bare(normal_form(option)) for option in item.options}) < len(item.options):
        yield "two options are equal", " | ".join(item.options)[:160]
    if item.answer_kind is AnswerKind.CHOICE:
        if len(item.options) < 2:
            yield "a choice with fewer than two options", f"{len(item.options)} options"
        elif item.answer not in item.options and gold_form(item.answer) not in forms:
            yield "the answer is not among the options", repr(item.answer)[:80]


def _answer(item: Item) -> Iterator[Fault]:
    said = bare(normal_form(item.answer))
    question = bare(normal_form(item.question.replace(IMAGE_MARKER, " ")))
    match item.answer_kind:
        case AnswerKind.YES_NO if said not in YES_NO:
            yield "a yes/no question without yes or no", repr(item.answer)[:80]
        case AnswerKind.YES_NO if WH_OPENING.match(question):
            yield "yes or no to a question that asks for something else", repr(item.question)[:80]
        case AnswerKind.SHORT if said in NUMBERS and YES_NO_OPENING.match(question):
            yield "a number to a yes/no question", repr(item.answer)[:80]
        case AnswerKind.BOX:
            boxes = read_boxes(item.answer)
            if isinstance(boxes, str) or not boxes:
                yield UNUSABLE_BOX, boxes if isinstance(boxes, str) else repr(item.answer)[:80]
            elif any(not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1) for x0, y0, x1, y1 in boxes):
                yield UNUSABLE_BOX, repr(item.answer)[:80]
        case _:
            pass
    if item.answer_kind is not AnswerKind.YES_NO and said and said == question:
        yield "the answer repeats the question", ""
