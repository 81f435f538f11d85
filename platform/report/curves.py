"""Training curves out of ``metrics.jsonl``: which values are drawn together, and in which colour."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from residency.platform.report.figures import Line, line_chart
from residency.platform.report.run_files import RunFiles, read_lines

Series = dict[tuple[str, str, str], tuple[tuple[float, float], ...]]  # (seed, role, name) → points
ROLE_STYLE = {
    "rl": "c-rl",
    "rl_permuted": "c-permuted",
    "sft": "c-sft",
    "sft_continued": "c-continued",
    "warm_up": "c-base",
}
ROLE_NAME = {
    "rl": "RL",
    "rl_permuted": "RL, rewards permuted",
    "sft": "SFT",
    "sft_continued": "SFT continued",
    "warm_up": "warm-up",
}
RL_ROLES, SFT_ROLES = ("rl", "rl_permuted"), ("sft", "warm_up", "sft_continued")


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One chart: its title, a line that says what it is, and the SVG."""

    title: str
    note: str
    svg: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Which metrics one chart shows: (metric, name in the legend, style or "" for the role's own)."""

    title: str
    note: str
    roles: tuple[str, ...]
    metrics: tuple[tuple[str, str, str], ...]
    low: float | None = None
    high: float | None = None


RL_PLANS = (
    Plan(
        title="Reward in RL",
        note="mean over a step's rollouts, by step",
        roles=RL_ROLES,
        metrics=(("reward_mean", "", ""),),
    ),
    Plan(
        title="pass@1, pass@G and format in RL",
        note="shares of a step's rollouts that are right and in the wanted form, and of its prompts with one right",
        roles=("rl",),
        metrics=(
            ("pass_at_1", "pass@1", "c-rl"),
            ("pass_at_g", "pass@G", "c-continued"),
            ("format_valid", "valid format", "c-format"),
        ),
        high=1.0,
    ),
    Plan(
        title="Groups without variance",
        note="share of prompts whose rollouts all earned the same: they teach nothing",
        roles=RL_ROLES,
        metrics=(("zero_variance_fraction", "", ""),),
        low=0.0,
        high=1.0,
    ),
    Plan(
        title="Response length",
        note="mean tokens of a rollout",
        roles=RL_ROLES,
        metrics=(("response_length_mean", "", ""),),
        low=0.0,
    ),
    Plan(
        title="Entropy",
        note="mean over the tokens trained on, nats",
        roles=RL_ROLES,
        metrics=(("entropy", "", ""),),
        low=0.0,
    ),
    Plan(
        title="Sampler against trainer",
        note="mean absolute difference of logprobs, sampler and trainer",
        roles=RL_ROLES,
        metrics=(("mismatch_mean", "", ""),),
        low=0.0,
    ),
    Plan(
        title="Staleness",
        note="optimizer steps between a token's weights and the step that trained on it",
        roles=("rl",),
        metrics=(("staleness_mean", "mean", "c-rl"), ("staleness_max", "most", "c-format")),
        low=0.0,
    ),
    Plan(
        title="Idle share",
        note="part of a step's time in which the role had nothing to do",
        roles=("rl",),
        metrics=(
            ("idle_fraction_generator", "generators", "c-rl"),
            ("idle_fraction_learner", "learner", "c-sft"),
            ("idle_fraction_verifier", "verifiers", "c-format"),
        ),
        low=0.0,
        high=1.0,
    ),
)
SFT_PLANS = (
    Plan(
        title="SFT loss",
        note="mean over a step's target tokens, by step",
        roles=SFT_ROLES,
        metrics=(("loss", "", ""),),
    ),
    Plan(
        title="Accuracy on the tune split",
        note="greedy, between SFT's steps; SFT stops at its plateau",
        roles=("sft",),
        metrics=(("tune_accuracy", "", ""),),
    ),
)


def read_series(run: RunFiles) -> Series:
    """Every metric of every seed as points; a step written twice (the run was started again) counts once, the last."""
    values: dict[tuple[str, str, str], dict[float, float]] = defaultdict(dict)
    for seed, folder in run.seeds:
        for row in read_lines(folder / "metrics.jsonl"):
            if row["value"] is not None:
                values[seed, row["role"], row["name"]][float(row["step"])] = float(row["value"])
    return {key: tuple(sorted(points.items())) for key, points in values.items()}


def draw(plans: Sequence[Plan], series: Series) -> list[Curve]:
    """The charts that have at least one point; seeds share their role's colour."""
    curves = []
    for plan in plans:
        lines = [
            Line(name=label or ROLE_NAME.get(role, role), style=style or ROLE_STYLE.get(role, "c-base"), points=points)
            for wanted in plan.roles
            for metric, label, style in plan.metrics
            for (_, role, name), points in series.items()
            if role == wanted and name == metric
        ]
        svg = line_chart(lines, title=plan.title, low=plan.low, high=plan.high)
        if svg:
            curves.append(Curve(title=plan.title, note=plan.note, svg=svg))
    return curves
