from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status, Trace, Verdict
from residency.training.evaluation.baselines import chance_accuracy, majority_accuracy
from residency.training.evaluation.comparisons import comparison_row, evaluation_row, gain_sentence
from residency.training.evaluation.outcomes import OUTCOME_SCHEMA, outcomes_table


def labels(**changes: Any) -> dict[str, Any]:
    usual = {"dataset": "starter", "seed": 0, "prompt_mode": "think", "decoding": "sampled", "image": "true"}
    return usual | changes


def outcome(
    item: int, correct: bool, *, sample: int = 0, seed: int = 0, status: str = "scored", **more: object
) -> dict:
    row = {
        "item_id": f"q{item}",
        "cluster": f"image{item // 2}",
        "dataset": "starter",
        "task": "presence",
        "sample_index": sample,
        "correct": correct,
        "valid_format": True,
        "status": status,
        "answer_kind": "yes_no",
        "answer": "yes",
        "gold": "yes" if item % 3 else "no",
        "n_options": 0,
        "seed": seed,
    }
    return row | more


def table(rows: list[dict]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(OUTCOME_SCHEMA))


def test_evaluation_row_counts_abstained_inside_and_errors_outside() -> None:
    outcomes = table(
        [
            outcome(0, True),
            outcome(1, False),
            outcome(2, True),
            outcome(3, False, status="abstained", valid_format=False),
            outcome(4, False, status="error"),
        ]
    )
    row = evaluation_row(outcomes, checkpoint="sft", profile="strict", **labels())
    assert (row["n"], row["correct"], row["accuracy"]) == (4, 2, 0.5)
    assert (row["abstained"], row["errors"], row["questions"], row["clusters"]) == (1, 1, 4, 2)
    assert row["seeds"] == 1
    assert row["valid_format"] == 0.75
    assert row["accuracy_given_valid"] == pytest.approx(2 / 3)
    assert row["ci95"][0] < 0.5 < row["ci95"][1]
    assert row["chance"] == 0.5


def test_evaluation_row_refuses_errors_only() -> None:
    with pytest.raises(DataError, match="all 1 verdicts are errors"):
        evaluation_row(table([outcome(0, False, status="timeout")]), checkpoint="sft", profile="strict", **labels())


def test_chance_and_majority_by_question() -> None:
    choice = {"answer_kind": "choice", "n_options": 4, "task": "side"}
    number = {"answer_kind": "number", "task": "count"}
    outcomes = table(
        [
            outcome(0, True, gold="left", **choice),
            outcome(0, True, sample=1, gold="left", **choice),  # the same question: counted once
            outcome(1, True, gold="right", **choice),
            outcome(2, True, gold="Left ", **choice),
            outcome(3, True, gold="yes"),
            outcome(4, True, gold="3") | number,
        ]
    )
    assert chance_accuracy(outcomes) == pytest.approx((3 * 0.25 + 0.5 + 0) / 5)
    assert majority_accuracy(outcomes) == pytest.approx((2 + 1 + 1) / 5)


def test_comparison_averages_samples_then_questions() -> None:
    a = table([outcome(i, i % 4 != 0 or sample == 0, sample=sample) for i in range(8) for sample in range(2)])
    b = table([outcome(i, False, sample=sample) for i in range(8) for sample in range(2)])
    row = comparison_row(a, b, a_name="rl", b_name="sft", **labels())
    assert row["difference"] == pytest.approx((6 * 1 + 2 * 0.5) / 8)
    assert (row["n"], row["questions"], row["clusters"], row["unpaired"]) == (16, 8, 4, 0)
    assert row["ci95"][0] <= row["difference"] <= row["ci95"][1]
    assert "mcnemar_p" not in row


def test_greedy_comparison_has_mcnemar() -> None:
    a, b = table([outcome(i, i < 9) for i in range(12)]), table([outcome(i, i == 9) for i in range(12)])
    row = comparison_row(a, b, a_name="rl", b_name="sft", **labels(decoding="greedy"))
    assert (row["only_a"], row["only_b"]) == (9, 1)
    assert row["mcnemar_p"] == pytest.approx(22 / 1024)


def test_pooled_comparison_resamples_seeds() -> None:
    a = table([outcome(i, i % 3 != seed, seed=seed) for seed in range(3) for i in range(20)])
    b = table([outcome(i, False, seed=seed) for seed in range(3) for i in range(20)])
    row = comparison_row(a, b, a_name="rl", b_name="sft", **labels(seed=None))
    assert (row["questions"], row["clusters"]) == (60, 10)
    assert "3 seeds and clusters" in row["method"]


def test_a_question_without_a_score_leaves_both_sides() -> None:
    a = table([outcome(0, True), outcome(2, True), outcome(4, False, status="error")])
    b = table([outcome(0, True), outcome(2, False), outcome(4, False)])
    row = comparison_row(a, b, a_name="rl", b_name="sft", **labels())
    assert (row["questions"], row["unpaired"], row["difference"]) == (2, 1, 0.5)


def test_a_gain_of_one_question_is_said() -> None:
    a, b = table([outcome(i, i < 4) for i in range(12)]), table([outcome(i, i < 3) for i in range(12)])
    row = comparison_row(a, b, a_name="rl", b_name="sft", **labels(decoding="greedy"))
    assert row["gain_in_questions"] == 1
    assert row["gain"] == "The whole difference is one question of 12."
    back = comparison_row(b, a, a_name="sft", b_name="rl", **labels(decoding="greedy"))
    assert (back["gain_in_questions"], back["gain"]) == (-1, row["gain"])


def test_a_gain_over_seeds_is_one_seeds() -> None:
    a = table([outcome(i, i < 4, seed=seed) for seed in range(2) for i in range(12)])
    b = table([outcome(i, False, seed=seed) for seed in range(2) for i in range(12)])
    row = comparison_row(a, b, a_name="rl", b_name="sft", **labels(seed=None))
    assert row["gain_in_questions"] == 4
    assert row["gain"] == "The difference is 4 questions of 12, on average over the answers to each."


@pytest.mark.parametrize(
    ("gain", "wanted"),
    [
        (0.0, "Equally many right of 1,500 questions."),
        (-0.5, "The whole difference is less than one question of 1,500."),
        (12.0, "The difference is 12 questions of 1,500."),
        (1234.5, "The difference is 1,234.5 questions of 1,500."),
    ],
)
def test_gain_in_words(gain: float, wanted: str) -> None:
    assert gain_sentence(gain, 1500, single=True) == wanted


def test_other_questions_are_refused() -> None:
    a, b = table([outcome(0, True), outcome(2, True)]), table([outcome(0, True)])
    with pytest.raises(DataError, match="rl has 1 questions that sft has not"):
        comparison_row(a, b, a_name="rl", b_name="sft", **labels())


def test_answers_twice_are_refused() -> None:
    twice = table([outcome(0, True), outcome(0, True)])
    with pytest.raises(DataError, match="1 answers are there twice"):
        evaluation_row(twice, checkpoint="sft", profile="strict", **labels())


ITEM = Item(
    id="q1",
    content_key="k",
    source="starter",
    split=Split.HELD_OUT,
    licence="CC0",
    cluster="ct",
    question="which side?",
    options=("left", "right"),
    answer="left",
    answer_kind=AnswerKind.CHOICE,
    family=Family.MEDICAL_MULTIMODAL,
    metadata={"task": "side"},
)
TRACE = Trace(
    id="t1",
    item_id="q1",
    role="policy",
    model="sft",
    prompt_mode=PromptMode.THINK,
    prompt_hash="h",
    seed=0,
    sample_index=1,
    text="<think>on the left</think><answer>left</answer>",
    finish_reason="stop",
)
VERDICT = Verdict(
    trace_id="t1",
    status=Status.SCORED,
    score=1.0,
    parts={"format": 1.0, "accuracy": 1.0},
    verifier="rules",
    verifier_version="1",
)


def test_outcomes_from_records() -> None:
    row = outcomes_table([ITEM], [TRACE], [VERDICT], dataset="starter", seed=3).row(0, named=True)
    assert row["correct"] is True
    assert (row["answer"], row["gold"], row["n_options"], row["seed"], row["task"]) == ("left", "left", 2, 3, "side")
    wrong = replace(VERDICT, parts={"format": 1.0, "accuracy": 0.0})
    assert outcomes_table([ITEM], [TRACE], [wrong], dataset="starter", seed=3)["correct"].to_list() == [False]


def test_an_open_answer_is_right_only_when_exact() -> None:
    near = replace(VERDICT, parts={"format": 1.0, "accuracy": 1.0, "exact": 0.0, "token_f1": 1.0})
    assert outcomes_table([ITEM], [TRACE], [near], dataset="starter", seed=0)["correct"].to_list() == [False]
    silent = replace(VERDICT, status=Status.ABSTAINED)
    assert outcomes_table([ITEM], [TRACE], [silent], dataset="starter", seed=0)["correct"].to_list() == [False]


def test_a_trace_without_verdict_is_refused() -> None:
    with pytest.raises(DataError, match="trace t1 of item q1 has no verdict"):
        outcomes_table([ITEM], [TRACE], [], dataset="starter", seed=0)
