import math
from collections.abc import Sequence

import pytest

from residency.platform.errors import RoleError
from residency.training.algorithms.advantages import group_advantages
from residency.training.algorithms.algorithm import Algorithm
from residency.training.algorithms.dapo import Dapo
from residency.training.algorithms.dr_grpo import DrGrpo
from residency.training.algorithms.grpo import Grpo
from residency.training.algorithms.rloo import Rloo

SCORES = [1.0, 0.0, 0.0, 1.0, 0.5]


@pytest.mark.parametrize("algorithm", [Grpo(), Dapo()])
def test_standardised_by_hand(algorithm: Algorithm) -> None:
    # Mean 0.5; squares 4 × 0.25, so the variance is 0.2 and the std 0.4472136.
    group = group_advantages(algorithm, SCORES)
    assert (group.mean, group.std) == (0.5, pytest.approx(0.4472136))
    assert group.advantages == pytest.approx((1.1180315, -1.1180315, -1.1180315, 1.1180315, 0.0), abs=1e-6)
    assert not group.zero_variance


def test_dr_grpo_only_takes_the_mean_off() -> None:
    assert group_advantages(DrGrpo(), SCORES).advantages == (0.5, -0.5, -0.5, 0.5, 0.0)


def test_rloo_takes_the_mean_of_the_others_off() -> None:
    # The sum is 2.5: 1 − 1.5/4, 0 − 2.5/4, 0.5 − 2/4.
    assert group_advantages(Rloo(), SCORES).advantages == (0.625, -0.625, -0.625, 0.625, 0.0)
    assert group_advantages(Rloo(), [1.0, None, 0.0]).advantages == (1.0, None, -1.0), "the others that have a score"


def test_a_rollout_without_a_score_is_out_of_the_baseline() -> None:
    group = group_advantages(Grpo(), [1.0, None, 0.0])
    assert group.advantages[1] is None
    assert (group.advantages[0], group.advantages[2]) == (pytest.approx(1.0, abs=1e-5), pytest.approx(-1.0, abs=1e-5))


@pytest.mark.parametrize("scores", [[0.1] * 8, [1.0, 1.0, None], [None, 0.3], [None, None]])
@pytest.mark.parametrize("algorithm", [Grpo(), Rloo()])
def test_groups_that_teach_nothing_are_flagged(algorithm: Algorithm, scores: list[float | None]) -> None:
    group = group_advantages(algorithm, scores, [0.3 * place for place in range(len(scores))])
    assert group.zero_variance, "whatever KL takes off"
    assert all(advantage in (None, 0.0) for advantage in group.advantages)


def test_kl_in_the_reward_is_taken_off_before_the_baseline() -> None:
    # 1 − 0.2, none, 0 − 0.4: mean 0.2; the flags and figures of the group are still the verifier's.
    group = group_advantages(DrGrpo(), [1.0, None, 0.0], [0.2, 9.0, 0.4])
    assert (group.advantages[0], group.advantages[1], group.advantages[2]) == (
        pytest.approx(0.6),
        None,
        pytest.approx(-0.6),
    )
    assert (group.mean, group.std) == (0.5, 0.5)


def test_advantages_that_are_none_are_refused() -> None:
    class Short(Grpo):
        def advantages(self, scores_G: Sequence[float]) -> list[float]:
            return [1.0]

    class Endless(Grpo):
        def advantages(self, scores_G: Sequence[float]) -> list[float]:
            return [math.nan] * len(scores_G)

    for algorithm in (Short(), Endless()):
        with pytest.raises(RoleError, match="one finite number a score"):
            group_advantages(algorithm, [1.0, 0.0])
