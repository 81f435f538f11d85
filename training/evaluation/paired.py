"""Paired differences in accuracy: clustered bootstrap, over seeds too, and McNemar's exact test. Pure numpy.

Suffixes: _N paired questions (of all seeds), _SC seeds × clusters, _RS and _RC resamples × seeds or clusters.

Seeds and clusters are crossed: each seed answers the same images, so both are resampled, independently of each other
(A. B. Owen, 2007, "The pigeonhole bootstrap"). From k units k−1 are drawn (J. N. K. Rao and C. F. J. Wu, 1988): with
the usual three seeds, drawing three of three would make their variance look a third smaller than it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from residency.platform.errors import DataError

CHUNK = 250  # resamples at a time, so that memory stays at a few MB for thousands of clusters


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """a − b in accuracy, with its 95 % percentile interval, and the share of resamples above 0."""

    difference: float
    low: float
    high: float
    share_above_zero: float


def paired_bootstrap(
    difference_N: NDArray[np.float64],
    cluster_N: NDArray[np.int64],
    seed_N: NDArray[np.int64] | None = None,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    random_seed: int = 0,
) -> PairedDifference:
    """Interval of the mean of the questions' differences, with clusters (and seeds, where given) resampled whole.

    Args:
        difference_N: each question's accuracy under a minus that under b, −1 … 1.
        cluster_N: number of each question's cluster, 0 … C−1.
        seed_N: number of each question's seed, 0 … S−1; None for one seed.

    Raises DataError for fewer than two clusters, which say nothing about their spread.
    """
    if seed_N is None:
        seed_N = np.zeros_like(cluster_N)
    num_seeds, num_clusters = int(seed_N.max(initial=0)) + 1, int(cluster_N.max(initial=-1)) + 1
    if num_clusters < 2:
        raise DataError(
            f"{num_clusters} clusters in a paired comparison",
            "at least 2",
            "evaluate on more than one image or patient",
        )
    cell_N = seed_N * num_clusters + cluster_N
    cells = num_seeds * num_clusters
    sum_SC = np.bincount(cell_N, weights=difference_N, minlength=cells).astype(np.float64)
    sum_SC = sum_SC.reshape(num_seeds, num_clusters)
    count_SC = np.bincount(cell_N, minlength=cells).reshape(num_seeds, num_clusters).astype(np.float64)
    generator = np.random.default_rng(random_seed)
    means = np.concatenate(
        [
            _resampled_means(sum_SC, count_SC, min(CHUNK, resamples - start), generator)
            for start in range(0, resamples, CHUNK)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return PairedDifference(
        difference=float(difference_N.mean()),
        low=float(low),
        high=float(high),
        share_above_zero=float((means > 0).mean()),
    )


def _resampled_means(
    sum_SC: NDArray[np.float64], count_SC: NDArray[np.float64], resamples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    num_seeds, num_clusters = sum_SC.shape
    weight_RS = _draws(resamples, num_seeds, generator)
    weight_RC = _draws(resamples, num_clusters, generator)
    total_R = np.einsum("rs,sc,rc->r", weight_RS, sum_SC, weight_RC, optimize=True)
    count_R = np.einsum("rs,sc,rc->r", weight_RS, count_SC, weight_RC, optimize=True)
    # Where seeds have clusters of their own, a resample may meet none of them: it says nothing and is left out.
    return total_R[count_R > 0] / count_R[count_R > 0]


def _draws(resamples: int, units: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """[R, units] how often each unit is drawn when units − 1 are drawn with replacement (the only one, if one)."""
    if units == 1:
        return np.ones((resamples, 1))
    drawn = generator.integers(0, units, size=(resamples, units - 1))
    flat = drawn + units * np.arange(resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=resamples * units).reshape(resamples, units).astype(np.float64)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value of McNemar's test for paired greedy answers (each question answered once).

    ``only_a`` questions are right under a alone, ``only_b`` under b alone. It takes questions as independent: with
    several questions an image the clustered interval is the one to claim by. ``mcnemar_exact(1, 9)`` is 0.0215.
    """
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)
