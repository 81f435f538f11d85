"""What a group of rollouts says about each of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from residency.platform.errors import RoleError
from residency.training.algorithms.algorithm import Algorithm

EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupAdvantages:
    """``advantages[i]`` is None where rollout i has no score (our fault): it enters neither baseline nor loss.

    ``mean`` and ``std`` (population) are the scores'. ``zero_variance``: all scores are equal (or fewer than two
    exist), so that the group teaches nothing.
    """

    advantages: tuple[float | None, ...]
    mean: float
    std: float
    zero_variance: bool


def group_advantages(
    algorithm: Algorithm, scores: Sequence[float | None], penalties: Sequence[float] | None = None
) -> GroupAdvantages:
    """The algorithm's advantages of the scores that exist; 0 for each of them where they are all equal.

    ``penalties`` (KL in the reward) are taken off the scores before the algorithm sees them. They do not decide
    whether the group teaches: where every answer is equally right, a small difference of KL must not be blown up.
    ``[1, 0, None]`` under GRPO → mean 0.5, std 0.5, advantages ≈ ``[1, −1, None]``.
    """
    known = [index for index, score in enumerate(scores) if score is not None]
    values = [score for score in scores if score is not None]
    mean, std = mean_and_std(values) if values else (0.0, 0.0)
    zero_variance = std < EPSILON
    advantages: list[float | None] = [None] * len(scores)
    if zero_variance:
        given: Sequence[float] = [0.0] * len(known)
    else:
        taken = [0.0] * len(scores) if penalties is None else penalties
        given = algorithm.advantages([value - taken[index] for index, value in zip(known, values, strict=True)])
    if len(given) != len(known) or not all(math.isfinite(advantage) for advantage in given):
        raise RoleError(
            f"{type(algorithm).__name__}.advantages gave {list(given)} for {len(known)} scores",
            "one finite number a score",
            "correct the algorithm that rl.algorithm names",
        )
    for index, advantage in zip(known, given, strict=True):
        advantages[index] = float(advantage)
    return GroupAdvantages(advantages=tuple(advantages), mean=mean, std=std, zero_variance=zero_variance)


def mean_and_std(scores_G: Sequence[float]) -> tuple[float, float]:
    """Mean and population standard deviation."""
    mean = math.fsum(scores_G) / len(scores_G)
    return mean, math.sqrt(math.fsum((score - mean) ** 2 for score in scores_G) / len(scores_G))


def standardised(scores_G: Sequence[float]) -> list[float]:
    """(r − mean) / (std + 1e-6): outcome supervision of GRPO (arXiv 2402.03300, §4.1.2), with the population std."""
    mean, std = mean_and_std(scores_G)
    return [(score - mean) / (std + EPSILON) for score in scores_G]


def centred(scores_G: Sequence[float]) -> list[float]:
    """r − mean."""
    mean, _ = mean_and_std(scores_G)
    return [score - mean for score in scores_G]
