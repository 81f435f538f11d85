"""The reward is composed as the recipe declares it, and the recipe says what does not add up."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from residency.platform.recipe import LengthConfig, RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status
from residency.platform.verifiers.composition import compose, length_part
from residency.platform.verifiers.judging import judge

ITEM = Item(
    id="i", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k", question="where?",
    answer="[[0, 0, 0.5, 0.5]]", answer_kind=AnswerKind.BOX, family=Family.MEDICAL_MULTIMODAL,
)  # fmt: skip
LENGTH = LengthConfig(max_characters=100, soft_characters=40)


def test_parts_count_by_their_shares() -> None:
    reward = RewardConfig(weights={"format": 0.1, "accuracy": 0.2, "iou": 0.7})
    verdict = judge(ITEM, "t", "<think>x</think><answer>[[0, 0, 0.5, 0.25]]</answer>", PromptMode.THINK, reward)
    assert verdict.parts["iou"] == 0.5
    assert verdict.score == pytest.approx(0.1 * 1 + 0.2 * verdict.parts["accuracy"] + 0.7 * 0.5)
    assert "no part" not in verdict.evidence


def test_a_part_that_the_verdict_lacks_counts_0_and_is_named() -> None:
    reward = RewardConfig(weights={"accuracy": 0.5, "rouge_l": 0.5})
    verdict = judge(ITEM, "t", "[[0, 0, 0.5, 0.5]]", PromptMode.DIRECT, reward)
    assert verdict.score == 0.5
    assert verdict.evidence.endswith("; no part rouge_l, counted as 0")


def test_an_abstention_has_what_its_format_earns() -> None:
    reward = RewardConfig(weights={"format": 0.3, "accuracy": 0.7})
    verdict = judge(ITEM, "t", "<think>x</think><answer>there</answer>", PromptMode.THINK, reward)
    assert (verdict.status, verdict.score, verdict.parts["accuracy"]) == (Status.ABSTAINED, 0.3, 0.0)


@pytest.mark.parametrize(("characters", "part"), [(0, 1.0), (60, 1.0), (70, 0.75), (90, 0.25), (100, 0.0), (999, 0.0)])
def test_length_falls_as_in_daposs_equation_13(characters: int, part: float) -> None:
    assert length_part(characters, LENGTH) == pytest.approx(part)


def test_length_is_a_part_with_a_share() -> None:
    reward = RewardConfig(weights={"accuracy": 0.8, "length": 0.2}, length=LENGTH)
    long_answer = "[[0, 0, 0.5, 0.5]]".ljust(70) + "."
    score, parts, _ = compose({"accuracy": 1.0}, long_answer[:70], reward)
    assert (score, parts["length"]) == (pytest.approx(0.8 + 0.2 * 0.75), pytest.approx(0.75))
    right = judge(replace(ITEM, answer_kind=AnswerKind.SHORT, answer="left"), "t", "left", PromptMode.DIRECT, reward)
    assert right.score == 1.0


shares = st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda values: sum(values) > 0.01)


@given(shares=shares, values=st.lists(st.floats(0, 1), max_size=6))
def test_the_score_of_parts_from_0_to_1_is_from_0_to_1(shares: list[float], values: list[float]) -> None:
    weights = {f"p{n}": share / sum(shares) for n, share in enumerate(shares)}
    parts = {f"p{n}": value for n, value in enumerate(values)}
    score = compose(parts, "", RewardConfig(weights=weights)).score
    assert 0 <= score <= 1
    assert score == pytest.approx(sum(share * parts.get(name, 0) for name, share in weights.items()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"format": 0.2, "accuracy": 0.9}}, r"sum to 1\.100: make them sum to 1, or leave weights out"),
        ({"weights": {"format": -0.1, "accuracy": 1.1}}, "greater than or equal to 0"),
        ({"length": LENGTH}, "add `length` to weights, or leave length out"),
        ({"weights": {"accuracy": 0.9, "length": 0.1}}, "nothing measures it"),
        ({"length": {"max_characters": 10, "soft_characters": 11}}, "soft_characters 11 is above max_characters 10"),
        ({"interface": "verl"}, "without a verifier: name one"),
        ({"score_range": (-1, 1)}, "without a verifier: name one"),
        ({"verifier": "my_rules.score"}, "is not `module:function`"),
        ({"verifier": "my-rules:score"}, "is not `module:function`"),
        ({"verifier": "a:b", "score_range": (1, 0)}, "is empty"),
        ({"format_weight": 0.1}, "format_weight"),
    ],
)
def test_a_reward_that_does_not_add_up_says_so(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RewardConfig(**fields)


def test_the_shares_are_the_papers_unless_the_recipe_says_otherwise() -> None:
    assert RewardConfig().weights == {"format": 0.1, "accuracy": 0.9}
    assert re.match(r"[\w.]+:\w+", RewardConfig(verifier="a.b:c", interface="trl").verifier or "")
