"""What a group of rollouts says about each of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupAdvantages:
    """``advantages[i]`` is None where rollout i has no score (our fault): it enters neither baseline nor loss.

    ``zero_variance``: all scores are equal (or fewer than two exist), so that the group teaches nothing.
    """

    advantages: tuple[float | None, ...]
    mean: float
    std: float
    zero_variance: bool


def grpo_advantages(scores: Sequence[float | None]) -> GroupAdvantages:
    """(r − mean) / (std + 1e-6) over the scores that exist; population std (GRPO, arXiv 2402.03300, §4.1.2).

    ``[1, 0, None]`` → mean 0.5, std 0.5, advantages ≈ ``[1, −1, None]``.
    """
    known = [score for score in scores if score is not None]
    mean = math.fsum(known) / len(known) if known else 0.0
    std = math.sqrt(math.fsum((score - mean) ** 2 for score in known) / len(known)) if known else 0.0
    zero_variance = std < EPSILON
    return GroupAdvantages(
        advantages=tuple(
            None if score is None else 0.0 if zero_variance else (score - mean) / (std + EPSILON) for score in scores
        ),
        mean=mean,
        std=std,
        zero_variance=zero_variance,
    )
