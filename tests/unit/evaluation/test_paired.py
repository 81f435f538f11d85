import numpy as np
import pytest

from residency.platform.errors import DataError
from residency.training.evaluation.paired import mcnemar_exact, paired_bootstrap


def test_difference_is_the_mean_of_questions() -> None:
    found = paired_bootstrap(np.array([1.0, 0.0, -0.5, 0.5]), np.array([0, 0, 1, 2]))
    assert found.difference == pytest.approx(0.25)
    assert found.low <= 0.25 <= found.high


def test_equal_differences_have_no_width() -> None:
    found = paired_bootstrap(np.full(30, 0.2), np.arange(30) // 3)
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))


def test_two_clusters_resample_one_of_them() -> None:
    # Of two clusters one is drawn: the mean is 0 or 1, so the interval is all of it.
    found = paired_bootstrap(np.array([0.0, 1.0]), np.array([0, 1]))
    assert (found.low, found.high) == (0.0, 1.0)


def test_one_cluster_is_refused() -> None:
    with pytest.raises(DataError, match="1 clusters"):
        paired_bootstrap(np.array([0.0, 1.0]), np.array([0, 0]))


def test_width_matches_the_normal_approximation() -> None:
    generator = np.random.default_rng(0)
    difference = generator.normal(0.1, 0.5, 2000)
    found = paired_bootstrap(difference, np.arange(2000), resamples=4000)
    half = 1.96 * difference.std(ddof=1) / np.sqrt(2000)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.06)


def test_disagreeing_seeds_widen_the_interval() -> None:
    clusters, seeds = np.tile(np.arange(100), 3), np.repeat(np.arange(3), 100)
    noise = np.random.default_rng(0).normal(0, 0.3, 300)
    agreeing = paired_bootstrap(noise + 0.1, clusters, seeds)
    disagreeing = paired_bootstrap(noise + np.array([-0.2, 0.1, 0.4])[seeds], clusters, seeds)
    assert disagreeing.difference == pytest.approx(agreeing.difference)
    assert disagreeing.high - disagreeing.low > 2 * (agreeing.high - agreeing.low)
    # Two of three seeds are drawn: the lowest seed twice, in one resample of nine.
    assert disagreeing.low == pytest.approx(-0.2, abs=0.1)


def test_same_random_seed_same_interval() -> None:
    difference, clusters = np.random.default_rng(3).normal(size=50), np.arange(50)
    assert paired_bootstrap(difference, clusters) == paired_bootstrap(difference, clusters)
    assert paired_bootstrap(difference, clusters) != paired_bootstrap(difference, clusters, random_seed=1)


def test_clustered_bootstrap_covers() -> None:
    """Differences of −1, 0, 1 that share a cluster's effect: the true mean is inside in about 95 % of experiments."""
    generator = np.random.default_rng(2)
    clusters = np.repeat(np.arange(60), 8)
    covered = 0
    for trial in range(300):
        effect = np.repeat(generator.normal(0.1, 0.2, 60), 8)
        a, b = generator.random(480) < 0.5 + effect / 2, generator.random(480) < 0.5 - effect / 2
        found = paired_bootstrap(a.astype(float) - b, clusters, resamples=400, random_seed=trial)
        covered += found.low <= 0.1 <= found.high
    assert 0.91 <= covered / 300 <= 0.985


def test_mcnemar_worked_by_hand() -> None:
    assert mcnemar_exact(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 5) == 1.0
