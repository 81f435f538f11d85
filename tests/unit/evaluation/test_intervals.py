import numpy as np
import pytest

from residency.platform.errors import DataError
from residency.training.evaluation.intervals import clustered_interval, effective_sample_size, wilson_interval


def test_wilson_worked_by_hand() -> None:
    # z = 1.95996: centre (0.8 + 0.192073) / 1.384146, half (1.95996·sqrt(0.016 + 0.0096036)) / 1.384146
    assert wilson_interval(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-4)


def test_wilson_at_the_ends_stays_inside_and_is_not_empty() -> None:
    low, high = wilson_interval(0, 20)
    assert low == 0.0
    assert high == pytest.approx(3.84146 / 23.84146, abs=1e-4)  # z² / (n + z²)
    assert wilson_interval(20, 20)[1] == pytest.approx(1.0)


def test_wilson_refuses_nothing_scored() -> None:
    with pytest.raises(DataError, match="0 correct of 0"):
        wilson_interval(0, 0)


def test_answers_of_their_own_clusters_give_wilson() -> None:
    correct = np.array([True, False, True, True])
    assert clustered_interval(correct, np.arange(4)) == wilson_interval(3, 4)


def test_effective_size_worked_by_hand() -> None:
    # Four clusters of two equal answers, two right, two wrong: residual sums ±1, variance 4/3 · 4/64 = 1/12,
    # p(1 − p) / variance = 3, times (1.95996 / 3.18245)² for three degrees of freedom.
    correct = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    assert effective_sample_size(correct, np.array([0, 0, 1, 1, 2, 2, 3, 3])) == pytest.approx(3 * 0.37929, abs=1e-3)


def test_copies_of_an_answer_do_not_narrow_the_interval() -> None:
    correct = np.random.default_rng(0).random(200) < 0.7
    alone = clustered_interval(correct, np.arange(200))
    copied = clustered_interval(np.repeat(correct, 8), np.repeat(np.arange(200), 8))
    assert copied == pytest.approx(alone, abs=5e-3)


def test_all_right_counts_clusters_only() -> None:
    correct = np.ones(40, dtype=bool)
    assert clustered_interval(correct, np.repeat(np.arange(10), 4)) == pytest.approx(wilson_interval(10, 10))


def test_clustered_interval_covers_where_wilson_does_not() -> None:
    """40 clusters of 12 answers, cluster accuracy Beta(4, 2): the true mean 2/3 is inside in about 95 % of tables."""
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(40), 12)
    covered = naive = 0
    for _ in range(800):
        correct = generator.random(480) < np.repeat(generator.beta(4, 2, 40), 12)
        low, high = clustered_interval(correct, clusters)
        covered += low <= 2 / 3 <= high
        low, high = wilson_interval(int(correct.sum()), 480)
        naive += low <= 2 / 3 <= high
    assert 0.925 <= covered / 800 <= 0.98
    assert naive / 800 < 0.85
