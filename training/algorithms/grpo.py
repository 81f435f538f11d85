"""GRPO: group-relative policy optimization (arXiv 2402.03300)."""

from collections.abc import Sequence

from residency.training.algorithms.advantages import standardised
from residency.training.algorithms.algorithm import BatchTotals, PolicyLoss, PolicyTokens
from residency.training.algorithms.surrogate import token_surrogate
from residency.training.losses import LossConfig


class Grpo:
    """Eq. 3: −1/G Σᵢ 1/|oᵢ| Σₜ { min(r·A, clip(r)·A) − β·KL }, the mean of each sequence's own token mean."""

    def advantages(self, scores_G: Sequence[float]) -> list[float]:
        """(r − mean) / std, §4.1.2."""
        return standardised(scores_G)

    def loss(self, tokens: PolicyTokens, totals: BatchTotals, config: LossConfig) -> PolicyLoss:
        terms = token_surrogate(tokens, config)
        means_N = tokens.row_sums(terms.loss) / tokens.row_weights().clamp(min=1e-6)  # a row of padding sums to 0
        return PolicyLoss(value=means_N.sum() / totals.num_sequences, clipped_T=terms.clipped)
