"""The gate between a checkpoint and the patients' side: what the boards must say before it goes on call. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from residency.training.evaluation.compare_runs import SittingKey, compare_runs
from residency.training.evaluation.comparisons import Row, evaluation_row

MOST_ERRORS = 0.01  # share of a board's answers that may be lost to our own faults


@dataclass(frozen=True, kw_only=True, slots=True)
class GateDecision:
    """``reasons`` (sentences) are empty where it passed; ``evidence`` are the rows that were looked at."""

    reasons: tuple[str, ...]
    evidence: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


def judge_first(answers: Mapping[SittingKey, pl.DataFrame]) -> GateDecision:
    """A first version has nothing to be compared with: it must have valid scores on every board.

    Refused where a board lost more than 1 % of its answers to our own faults.
    """
    rows, reasons = [], []
    for key, outcomes in sorted(answers.items(), key=lambda pair: pair[0]):
        faults = outcomes.filter(~pl.col("status").is_in(["scored", "abstained"])).height
        if outcomes.is_empty() or faults > MOST_ERRORS * outcomes.height:
            reasons.append(
                f"{where(key)}: {faults} of {outcomes.height} answers have no score, at most {MOST_ERRORS:.0%} may"
            )
            continue
        rows.append(evaluation_row(outcomes, seed=None, **_labels(key), checkpoint=key.checkpoint, profile=key.profile))
    if not answers:
        reasons.append("no board was sat")
    return GateDecision(reasons=tuple(reasons), evidence=tuple(rows))


def judge_paired(
    candidate: Mapping[SittingKey, pl.DataFrame],
    on_call: Mapping[SittingKey, pl.DataFrame],
    *,
    candidate_name: str,
    on_call_name: str,
    resamples: int = 2000,
) -> GateDecision:
    """The candidate against what is on call, paired by question, sitting by sitting.

    Refused where on any of them its accuracy is significantly lower (the 95 % interval of candidate − on call lies
    wholly below 0), or where a sitting could not be compared: what was not looked at is not taken for good.
    """
    found = compare_runs(candidate, on_call, a_name=candidate_name, b_name=on_call_name, resamples=resamples)
    reasons = [
        f"{row['dataset']} ({row['prompt_mode']}): {100 * row['difference']:+.1f} points, 95 % interval"
        f" {100 * row['ci95'][0]:+.1f} to {100 * row['ci95'][1]:+.1f}, on {row['questions']} questions"
        for row in found.rows
        if row["ci95"][1] < 0
    ]
    reasons += [f"not compared: {one.sitting}: {one.reason}" for one in found.refused]
    if not found.rows and not found.refused:
        reasons.append("no board was sat")
    return GateDecision(reasons=tuple(reasons), evidence=found.rows)


def where(key: SittingKey) -> str:
    return f"{key.dataset} ({key.prompt_mode}, {key.decoding})"


def _labels(key: SittingKey) -> dict[str, Any]:
    return {"dataset": key.dataset, "prompt_mode": key.prompt_mode, "decoding": key.decoding, "image": key.image}
