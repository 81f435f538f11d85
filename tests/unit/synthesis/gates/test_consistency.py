"""Completeness and logic by rule."""

from collections.abc import Callable
from typing import Any

import pytest

from residency.platform.records import AnswerKind, Item
from residency.synthesis.gates.consistency import UNUSABLE_BOX, consistency_gate
from residency.synthesis.gates.decision import Outcome

pytestmark = pytest.mark.timeout(60)
CHOICE, YES_NO, BOX = AnswerKind.CHOICE, AnswerKind.YES_NO, AnswerKind.BOX


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"question": " <image> ?", "media": ("a",)}, "no question"),
        ({"answer": "N/A"}, "no answer"),
        ({"question": "<image> and <image>: what differs?", "media": ("a",)},
         "image markers and images differ in number"),
        ({"question": "What is shown in this image?"}, "a picture is spoken of, but there is none"),
        ({"question": "What does the second image show?", "media": ("a",)},
         "several pictures are spoken of, but there is one"),
        ({"answer_kind": CHOICE, "options": ("liver", "")}, "an empty option"),
        ({"answer_kind": CHOICE, "options": ("liver", "Liver.", "spleen")}, "two options are equal"),
        ({"answer_kind": CHOICE, "options": ("liver",)}, "a choice with fewer than two options"),
        ({"answer_kind": CHOICE, "options": ("spleen", "kidney")}, "the answer is not among the options"),
        ({"answer_kind": YES_NO, "question": "Is it enlarged?"}, "a yes/no question without yes or no"),
        ({"answer_kind": YES_NO, "answer": "yes"}, "yes or no to a question that asks for something else"),
        ({"question": "Is the heart enlarged?", "answer": "3"}, "a number to a yes/no question"),
        ({"answer_kind": BOX, "answer": "left"}, UNUSABLE_BOX),
        ({"answer_kind": BOX, "answer": "[[0.1, 0.1, 1.2, 0.5]]"}, UNUSABLE_BOX),
        ({"answer_kind": BOX, "answer": "[[0.5, 0.1, 0.5, 0.4]]"}, UNUSABLE_BOX),
        ({"answer": "Which organ is enlarged"}, "the answer repeats the question"),
    ],
)  # fmt: skip
def test_a_fault_has_its_reason(changed: dict[str, Any], reason: str, make_item: Callable[..., Item]) -> None:
    decision = consistency_gate(make_item(**changed))
    assert decision.outcome is Outcome.REFUSED
    assert decision.reason == reason


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"question": "Is it CT or MRI?", "answer": "CT"},
        {"question": "<image>Is the liver enlarged?", "media": ("a",), "answer": "no", "answer_kind": YES_NO},
        {"question": "图中肝脏是否正常?", "media": ("a",), "answer": "是", "answer_kind": YES_NO},
        {"answer_kind": CHOICE, "options": ("Liver", "spleen", "none"), "answer": "none"},
        {"answer_kind": BOX, "question": "Where is it?", "answer": "[[0.1, 0.1, 0.4, 0.5]]"},
        {"question": "Were there two of them at 9/12?", "answer": "unclear", "answer_kind": AnswerKind.OPEN},
    ],
)
def test_sound_items_pass(changed: dict[str, Any], make_item: Callable[..., Item]) -> None:
    assert consistency_gate(make_item(**changed)).outcome is Outcome.PASSED
