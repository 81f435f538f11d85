"""95 % intervals of a proportion: Wilson's, and Wilson's on the effective sample size where rows share clusters.

Sources: E. B. Wilson (1927), JASA 22; E. L. Korn and B. I. Graubard (1998), Survey Methodology 24, for the effective
sample size with its t correction; the clustered variance is that of a ratio (Cochran, Sampling Techniques, §11).
"""

from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from residency.platform.errors import DataError

Interval = tuple[float, float]


def wilson_interval(correct: float, n: float, confidence: float = 0.95) -> Interval:
    """Wilson score interval of ``correct / n``; both may be fractional (an effective sample size).

    ``wilson_interval(8, 10)`` is (0.490, 0.943). Raises DataError where n is not positive or correct is outside 0–n.
    """
    if n <= 0 or not 0 <= correct <= n:
        raise DataError(f"{correct} correct of {n}", "0 ≤ correct ≤ n with n > 0", "score at least one answer")
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    p = correct / n
    centre = p + z * z / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def effective_sample_size(correct: NDArray[np.bool_], clusters: NDArray[np.int64], confidence: float = 0.95) -> float:
    """How many independent answers the clustered ones are worth, between 1 and their number.

    Args:
        correct: [N] whether each answer is right.
        clusters: [N] number of each answer's cluster, 0 … C−1 with none left out.
    """
    n, num_clusters = len(correct), int(clusters.max()) + 1
    if num_clusters == n:
        return float(n)
    p = float(correct.mean())
    if num_clusters == 1:
        return 1.0
    if p in (0.0, 1.0):  # no variance to be seen: each cluster may be one single fact
        return float(num_clusters)
    residual_C = np.bincount(clusters, weights=correct - p, minlength=num_clusters)
    variance = num_clusters / (num_clusters - 1) * float(residual_C @ residual_C) / n**2
    if variance == 0.0:
        return float(n)
    z, t = stats.norm.ppf(0.5 + confidence / 2), stats.t.ppf(0.5 + confidence / 2, num_clusters - 1)
    return float(np.clip(p * (1 - p) / variance * (z / t) ** 2, 1.0, n))


def clustered_interval(correct: NDArray[np.bool_], clusters: NDArray[np.int64], confidence: float = 0.95) -> Interval:
    """Interval of the share of right answers where answers of one cluster hang together (samples of a question,
    questions on one image). Equal to Wilson's where every answer has a cluster of its own.

    Args:
        correct: [N] whether each answer is right.
        clusters: [N] number of each answer's cluster, 0 … C−1 with none left out.
    """
    if len(correct) == 0:
        raise DataError("no scored answer", "at least one", "look at the errors column: did the verifier fail?")
    n = effective_sample_size(correct, clusters, confidence)
    return wilson_interval(float(correct.mean()) * n, n, confidence)
