import pytest

from residency.training.advantages import grpo_advantages


def test_by_hand() -> None:
    # Scores 1, 0, 0, 1, 0.5: mean 0.5; squares 4 × 0.25, so the variance is 0.2 and the std 0.4472136.
    group = grpo_advantages([1.0, 0.0, 0.0, 1.0, 0.5])
    assert (group.mean, group.std) == (0.5, pytest.approx(0.4472136))
    assert group.advantages == pytest.approx((1.1180315, -1.1180315, -1.1180315, 1.1180315, 0.0), abs=1e-6)
    assert not group.zero_variance


def test_a_rollout_without_a_score_is_out_of_the_baseline() -> None:
    group = grpo_advantages([1.0, None, 0.0])
    assert group.advantages[1] is None
    assert (group.advantages[0], group.advantages[2]) == (pytest.approx(1.0, abs=1e-5), pytest.approx(-1.0, abs=1e-5))


@pytest.mark.parametrize("scores", [[0.1] * 8, [1.0, 1.0, None], [None, 0.3], [None, None]])
def test_groups_that_teach_nothing_are_flagged(scores: list[float | None]) -> None:
    group = grpo_advantages(scores)
    assert group.zero_variance
    assert all(advantage in (None, 0.0) for advantage in group.advantages)
