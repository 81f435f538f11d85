"""DAPO: decoupled clip and dynamic sampling (arXiv 2503.14476)."""

from collections.abc import Sequence

from residency.training.algorithms.advantages import standardised
from residency.training.algorithms.algorithm import BatchTotals, PolicyLoss, PolicyTokens
from residency.training.algorithms.surrogate import token_surrogate
from residency.training.losses import LossConfig


class Dapo:
    """Eq. 8: −1/Σ|oᵢ| Σᵢ Σₜ min(r·A, clip(r, 1 − ε_low, 1 + ε_high)·A), the mean over all tokens of the batch.

    Its other parts are not in the loss: groups of equal scores are left out of the batch for every algorithm (eq. 11),
    and overlong shaping (eq. 13) is the reward's part ``length`` (``rl.reward.length``).
    """

    def advantages(self, scores_G: Sequence[float]) -> list[float]:
        """(r − mean) / std, eq. 9."""
        return standardised(scores_G)

    def loss(self, tokens: PolicyTokens, totals: BatchTotals, config: LossConfig) -> PolicyLoss:
        terms = token_surrogate(tokens, config)
        return PolicyLoss(value=(tokens.weights_T * terms.loss).sum() / totals.weight, clipped_T=terms.clipped)
