import re
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.platform.errors import DataError
from residency.platform.prompts import render_completion
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status
from residency.platform.verifiers.judging import judge
from residency.platform.verifiers.rules import VERIFIER_VERSION, check_item

REWARD = RewardConfig()
BASE = Item(
    id="i", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k", question="is a lesion present?",
    options=("ct", "mr", "upper left"), answer="mr", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
)  # fmt: skip
ANSWERS = {
    AnswerKind.CHOICE: "mr",
    AnswerKind.YES_NO: "no",
    AnswerKind.SHORT: "left lung",
    AnswerKind.NUMBER: "500 mg",
    AnswerKind.BOX: "[[0.1, 0.1, 0.5, 0.5]]",
    AnswerKind.OPEN: "a round lesion on the left",
}
ITEMS = [replace(BASE, answer_kind=kind, answer=answer) for kind, answer in ANSWERS.items()]


def test_score_is_format_and_accuracy_by_their_weights() -> None:
    def score(text: str) -> tuple[float | None, Status]:
        verdict = judge(BASE, "t", text, PromptMode.THINK, REWARD)
        return verdict.score, verdict.status

    assert score("<think>grey</think><answer>mr</answer>") == (1.0, Status.SCORED)
    assert score("<think>grey</think><answer>ct</answer>") == (0.1, Status.SCORED)
    assert score("<answer>mr</answer>") == (0.9, Status.SCORED)
    assert score("<answer>ct</answer>") == (0.0, Status.SCORED)
    assert score("<think>grey</think><answer>pet</answer>") == (0.1, Status.ABSTAINED)
    assert score("mr") == (0.0, Status.ABSTAINED)


def test_verdict_carries_its_evidence() -> None:
    verdict = judge(BASE, "t7", "<think>grey</think><answer>ct</answer>", PromptMode.THINK, REWARD)
    assert verdict.trace_id == "t7"
    assert verdict.parts == {"format": 1.0, "accuracy": 0.0}
    assert verdict.evidence.startswith("span 'ct'; ")
    assert "names 'ct', wanted 'mr'; format ok" in verdict.evidence
    assert (verdict.verifier, verdict.verifier_version) == ("rules/choice", VERIFIER_VERSION)


def test_box_says_its_iou() -> None:
    item = replace(BASE, answer_kind=AnswerKind.BOX, answer="[[0, 0, 0.5, 0.5]]")
    verdict = judge(item, "t", "[[0, 0, 0.5, 0.25]]", PromptMode.DIRECT, REWARD)
    assert (verdict.parts["accuracy"], verdict.parts["iou"]) == (1.0, 0.5)


def test_report_has_no_verifier_yet() -> None:
    with pytest.raises(DataError, match="does not exist yet"):
        check_item(replace(BASE, answer_kind=AnswerKind.REPORT))


def test_very_long_texts_are_judged_in_bounded_time() -> None:
    hostile = ["a" * 10**6, " " * 10**6, "<" * 10**6, "1" * 10**6, "(b) " * 250_000, "\\boxed{" * 150_000, "[" * 10**6]
    start = time.perf_counter()
    for item in ITEMS:
        for text in hostile:
            for wrapped in (text, render_completion(text, PromptMode.THINK, text)):
                score = judge(item, "t", wrapped, PromptMode.THINK, REWARD).score
                assert score is not None
                assert score <= 0.1
    assert time.perf_counter() - start < 60


PIECES = (
    "<think> </think> <answer> </answer> \\boxed{ } mr ct b (b) yes no not 500 mg 0.5 g 1e9 [[0.1,0.1,0.5,0.5]]"
    " [ ] NaN , . - = / upper left lung a the answer is &"
)
pieces = st.sampled_from(PIECES.split())
texts = st.one_of(st.text(), st.lists(pieces, max_size=20).map(" ".join), st.lists(pieces, max_size=20).map("".join))


@settings(max_examples=400, deadline=None)
@given(text=texts, item=st.sampled_from(ITEMS), mode=st.sampled_from(list(PromptMode)))
def test_no_exception_escapes_and_every_verdict_is_consistent(text: str, item: Item, mode: PromptMode) -> None:
    verdict = judge(item, "t", text, mode, REWARD)
    assert verdict.status in (Status.SCORED, Status.ABSTAINED)
    assert verdict.score == pytest.approx(0.1 * verdict.parts["format"] + 0.9 * verdict.parts["accuracy"])
    assert all(0 <= part <= 1 for part in verdict.parts.values())
    if verdict.status is Status.ABSTAINED:
        assert verdict.parts["accuracy"] == 0
    assert verdict.evidence.encode()


white = st.text(alphabet=" \n\t", min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    item=st.sampled_from(ITEMS),
    span=st.sampled_from(["mr", "(b) mr", "upper left", "no", "yes or no", "left lung", "500 mg", "0.5 g", "2 . 5 mg"]),
    mode=st.sampled_from(list(PromptMode)),
    data=st.data(),
)
def test_white_space_does_not_change_the_verdict(item: Item, span: str, mode: PromptMode, data: st.DataObject) -> None:
    text = render_completion(span, mode, "it is grey")
    spaced = "".join(
        data.draw(white) if part.isspace() else data.draw(white) + part + data.draw(white) if part[0] == "<" else part
        for part in re.split(r"(\s+|</?\w+>)", text)
        if part
    )
    before, after = (judge(item, "t", each, mode, REWARD) for each in (text, spaced))
    assert (before.status, before.score, before.parts) == (after.status, after.score, after.parts)
