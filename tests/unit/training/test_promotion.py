"""The gate: a significant loss on any board keeps a checkpoint out, and so does a board that was not looked at."""

from collections.abc import Sequence

import polars as pl

from residency.training.evaluation.compare_runs import SittingKey
from residency.training.evaluation.outcomes import OUTCOME_SCHEMA
from residency.training.promotion import GateDecision, judge_first, judge_paired


def key(dataset: str, mode: str = "think", content: str = "abc") -> SittingKey:
    return SittingKey(
        checkpoint="weights", dataset=dataset, dataset_hash=content, prompt_mode=mode, decoding="greedy", image="true",
        profile="strict-1",
    )  # fmt: skip


def table(rights: Sequence[bool], status: str = "scored") -> pl.DataFrame:
    rows = [
        {
            "item_id": f"q{number}", "cluster": f"image{number}", "dataset": "d", "task": "t", "sample_index": 0,
            "correct": right, "valid_format": True, "status": status, "answer_kind": "yes_no", "answer": "yes",
            "gold": "yes", "n_options": 0, "seed": 0, "trace_id": f"t{number}", "evidence": "",
        }
        for number, right in enumerate(rights)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=dict(OUTCOME_SCHEMA))


def decide(a: dict[SittingKey, pl.DataFrame], b: dict[SittingKey, pl.DataFrame]) -> GateDecision:
    return judge_paired(a, b, candidate_name="rl of new", on_call_name="v1", resamples=500)


def test_a_significant_loss_on_one_board_is_enough() -> None:
    good, better = table([True] * 60 + [False] * 40), table([True] * 90 + [False] * 10)
    decision = decide({key("x"): better, key("y"): good}, {key("x"): good, key("y"): better})
    assert not decision.passed
    (reason,) = decision.reasons
    assert reason.startswith("y (think): -30.0 points, 95 % interval -3")
    assert reason.endswith("on 100 questions")
    assert [row["dataset"] for row in decision.evidence] == ["x", "y"]


def test_no_difference_and_a_small_loss_pass() -> None:
    one, other = table([True] * 60 + [False] * 40), table([True] * 61 + [False] * 39)
    assert decide({key("x"): one}, {key("x"): one}).passed
    decision = decide({key("x"): one}, {key("x"): other})
    assert decision.passed
    assert decision.evidence[0]["difference"] < 0


def test_what_cannot_be_compared_is_not_taken_for_good() -> None:
    answers = table([True] * 10)
    decision = decide({key("x"): answers, key("y"): answers}, {key("x"): answers, key("y", content="other"): answers})
    assert not decision.passed
    assert "y" in decision.reasons[0]
    assert "other questions" in decision.reasons[0]
    assert not decide({}, {}).passed


def test_a_first_version_needs_valid_scores_and_no_comparison() -> None:
    decision = judge_first({key("x"): table([True, False, False]), key("x", "direct"): table([False] * 3)})
    assert decision.passed
    assert [(row["dataset"], row["prompt_mode"], row["n"]) for row in decision.evidence] == [
        ("x", "direct", 3), ("x", "think", 3)
    ]  # fmt: skip


def test_our_own_faults_keep_a_first_version_out() -> None:
    lost = pl.concat([table([True] * 90), table([False] * 2, "timeout").with_columns(sample_index=pl.lit(1, pl.Int32))])
    decision = judge_first({key("x"): lost})
    assert decision.reasons == ("x (think, greedy): 2 of 92 answers have no score, at most 1% may",)
    assert not judge_first({}).passed
