"""What an RL step is watched by, in the field's names and with units: records and tables in, numbers out. No Ray.

Sampling is told of every group that finished for the step, also of those that were left out for want of variance;
staleness and the learner's numbers of the groups that were trained on. Dimensions: G = rollouts of a prompt.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from residency.platform.errors import DataError
from residency.training.algorithms.advantages import EPSILON, mean_and_std
from residency.training.batch_stats import BatchStats, StepStats
from residency.training.mismatch.meter import fresh_mismatch

STEP_MASK = 0xFFFFFFFF  # the low half of a packed policy version: its step

UNITS: Mapping[str, str] = {
    "optimizer_step": "steps",
    "rollouts": "rollouts",
    "reward_mean": "reward",
    "reward_std": "reward",
    "accuracy": "fraction",
    "format_valid": "fraction",
    "pass_at_1": "fraction",
    "pass_at_g": "fraction",
    "zero_variance_fraction": "fraction",
    "groups_all_right": "groups",
    "groups_all_wrong": "groups",
    "response_length_mean": "tokens",
    "truncated_fraction": "fraction",
    "staleness_mean": "steps",
    "staleness_max": "steps",
    "loss": "",
    "entropy": "nats",
    "kl": "nats",
    "clip_fraction": "fraction",
    "ratio_mean": "",
    "mismatch_mean": "nats",
    "mismatch_max": "nats",
    "policy_gap_mean": "nats",
    "grad_norm": "",
    "learning_rate": "",
    "tokens_per_second_generated": "tokens/s",
    "tokens_per_second_trained": "tokens/s",
    "weights_bytes": "bytes",
}


def unit_of(name: str) -> str:
    """The unit of a metric, also of those whose name holds a number, a phase or a role."""
    if name in UNITS:
        return UNITS[name]
    if name.endswith("_seconds"):
        return "seconds"
    return "fraction" if name.startswith(("staleness_", "idle_fraction_")) else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupSample:
    """One prompt's rollouts [G]: what they earned and how long they are.

    ``scores`` are rewards 0–1, None where our own verifier failed; ``right`` whether the answer is fully right.
    """

    item_id: str
    scores: tuple[float | None, ...]
    accuracy: tuple[float, ...]
    format_valid: tuple[float, ...]
    lengths: tuple[int, ...]  # completion tokens
    truncated: tuple[bool, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        return tuple(accuracy == 1.0 for accuracy in self.accuracy)

    @property
    def known_scores(self) -> tuple[float, ...]:
        return tuple(score for score in self.scores if score is not None)

    @property
    def zero_variance(self) -> bool:
        """Whether all scores are equal (or fewer than two exist), so that the group teaches nothing."""
        return not self.known_scores or mean_and_std(self.known_scores)[1] < EPSILON


def group_samples(traces: pa.Table, verdicts: pa.Table) -> list[GroupSample]:
    """Groups of a Trace table and its Verdict table, by item in the order of the traces.

    Raises DataError for a trace without a verdict.
    """
    verdict_of = {row["trace_id"]: row for row in verdicts.select(["trace_id", "score", "parts"]).to_pylist()}
    names = ("id", "item_id", "finish_reason")
    ids, item_ids, reasons = (traces.column(name).to_pylist() for name in names)
    lengths = lengths_of(traces)
    rows: dict[str, list[int]] = {}
    for row, (trace_id, item_id) in enumerate(zip(ids, item_ids, strict=True)):
        if trace_id not in verdict_of:
            raise DataError(f"trace {trace_id} has no verdict", "one verdict a trace", "judge the traces first")
        rows.setdefault(item_id, []).append(row)
    groups = []
    for item_id, members in rows.items():
        judged = [verdict_of[ids[row]] for row in members]
        parts = [dict(verdict["parts"] or {}) for verdict in judged]
        groups.append(
            GroupSample(
                item_id=item_id,
                scores=tuple(verdict["score"] for verdict in judged),
                accuracy=tuple(float(part.get("accuracy", 0.0)) for part in parts),
                format_valid=tuple(float(part.get("format", 0.0)) for part in parts),
                lengths=tuple(int(lengths[row]) for row in members),
                truncated=tuple(reasons[row] == "length" for row in members),
            )
        )
    return groups


def lengths_of(traces: pa.Table) -> np.ndarray:
    """Completion tokens of each trace (int64 [N])."""
    counts = [np.diff(chunk.offsets.to_numpy()) for chunk in traces.column("token_ids").chunks]
    return np.concatenate(counts).astype(np.int64) if counts else np.zeros(0, np.int64)


def mean(values: Iterable[float]) -> float:
    every = list(values)
    return math.fsum(every) / len(every) if every else 0.0


def sample_metrics(groups: Sequence[GroupSample]) -> dict[str, float]:
    """Rewards, passes, variance and lengths of all groups that finished for a step, trained on or left out.

    pass@1 is the share of rollouts that are right; pass@G the share of groups with at least one. A group without
    variance is ``all_right`` where its mean reward is above one half.
    """
    scores = [score for group in groups for score in group.known_scores]
    reward_mean, reward_std = mean_and_std(scores) if scores else (0.0, 0.0)
    flat = [group for group in groups if group.zero_variance]
    all_right = sum(mean(group.known_scores) > 0.5 for group in flat)
    return {
        "rollouts": float(sum(len(group.lengths) for group in groups)),
        "reward_mean": reward_mean,
        "reward_std": reward_std,
        "accuracy": mean(value for group in groups for value in group.accuracy),
        "format_valid": mean(value for group in groups for value in group.format_valid),
        "pass_at_1": mean(float(right) for group in groups for right in group.right),
        "pass_at_g": mean(float(any(group.right)) for group in groups),
        "zero_variance_fraction": mean(float(group.zero_variance) for group in groups),
        "groups_all_right": float(all_right),
        "groups_all_wrong": float(len(flat) - all_right),
        "response_length_mean": mean(float(length) for group in groups for length in group.lengths),
        "truncated_fraction": mean(float(cut) for group in groups for cut in group.truncated),
    }


def staleness_metrics(traces: Iterable[pa.Table], step: int, max_staleness: int) -> dict[str, float]:
    """Of every token of these Trace tables: the trainer's ``step`` that consumes it minus the step of its weights.

    ``staleness_0`` … ``staleness_η`` are shares of the tokens; a token beyond η (there must be none) counts in mean and
    max alone, so that the shares then fall short of 1.
    """
    columns = [chunk.flatten().to_numpy() for table in traces for chunk in table.column("policy_versions").chunks]
    packed_T = np.concatenate(columns) if columns else np.zeros(0, np.int64)
    lag_T, num_tokens = step - (packed_T & STEP_MASK), max(1, len(packed_T))
    return {
        "staleness_mean": float(lag_T.sum()) / num_tokens,
        "staleness_max": float(lag_T.max(initial=0)),
        **{f"staleness_{lag}": float((lag_T == lag).sum()) / num_tokens for lag in range(max_staleness + 1)},
    }


def learner_metrics(trained: BatchStats, update: StepStats, kl: float | None = None) -> dict[str, float]:
    """Of one optimizer step. By its number, ``optimizer_step``, `replay` finds its loss and gradient norm.

    ``kl`` is the mean a token (``trained.kl`` where KL is in the loss); without KL it is left out. ``mismatch_*`` are
    of rollouts that the trained weights sampled, and left out where there were none; ``policy_gap_mean`` is the same
    difference over all tokens, those of older weights too.
    """
    fresh = fresh_mismatch(trained)
    return {
        "optimizer_step": float(update.step),
        "loss": trained.loss,
        "entropy": trained.entropy,
        **({} if kl is None else {"kl": kl}),
        "clip_fraction": trained.clipped_share,
        "ratio_mean": trained.ratio,
        **({"mismatch_mean": fresh, "mismatch_max": trained.fresh_mismatch_max} if fresh is not None else {}),
        "policy_gap_mean": trained.mismatch,
        "grad_norm": update.gradient_norm,
        "learning_rate": update.learning_rate,
    }


def speed_metrics(
    num_generated: int, generate_seconds: float, num_trained: int, train_seconds: float
) -> dict[str, float]:
    """Completion tokens a second, by the seconds in which any were generated and in which any were trained on."""
    return {
        "generate_seconds": generate_seconds,
        "train_seconds": train_seconds,
        "tokens_per_second_generated": num_generated / generate_seconds if generate_seconds > 0 else 0.0,
        "tokens_per_second_trained": num_trained / train_seconds if train_seconds > 0 else 0.0,
    }


def weights_metrics(num_bytes: int, phases: Mapping[str, float], seconds: float) -> dict[str, float]:
    """One weight update: its bytes, its seconds from first to last, and those of each phase (of the slowest engine)."""
    return {
        "weights_bytes": float(num_bytes),
        "weights_seconds": seconds,
        **{f"weights_{phase}_seconds": value for phase, value in phases.items()},
    }


def slowest(engines: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Seconds of each phase, of the engine that took longest in it."""
    worst: dict[str, float] = {}
    for phases in engines:
        for phase, seconds in phases.items():
            worst[phase] = max(worst.get(phase, 0.0), seconds)
    return worst
