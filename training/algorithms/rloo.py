"""RLOO: REINFORCE with a leave-one-out baseline (arXiv 2402.14740)."""

import math
from collections.abc import Sequence

import torch

from residency.training.algorithms.algorithm import BatchTotals, PolicyLoss, PolicyTokens
from residency.training.algorithms.kl import kl_penalty
from residency.training.algorithms.surrogate import clipped_surrogate
from residency.training.losses import LossConfig


class Rloo:
    """§2.2: the whole completion is one action, ∇ = 1/k Σᵢ (Rᵢ − 1/(k−1) Σ_{j≠i} Rⱼ) ∇ log π(yᵢ|x).

    Written as the surrogate of the sequence's ratio exp(Σₜ Δ log π), whose gradient at ratio 1 is just that; the clip
    (not in the paper) bites only where a batch is used for more than one step. Importance is the sequence's as well.
    """

    def advantages(self, scores_G: Sequence[float]) -> list[float]:
        """r − mean of the others."""
        total = math.fsum(scores_G)
        return [score - (total - score) / (len(scores_G) - 1) for score in scores_G]

    def loss(self, tokens: PolicyTokens, totals: BatchTotals, config: LossConfig) -> PolicyLoss:
        terms = clipped_surrogate(
            tokens.row_sums(tokens.logprobs_T - tokens.old_logprobs_T),
            tokens.row_sums(tokens.old_logprobs_T - tokens.sampler_logprobs_T),
            tokens.row_advantages(),
            config,
        )
        losses_N = torch.where(tokens.row_weights() > 0, terms.loss, 0.0)
        penalty_T = kl_penalty(tokens, config)
        if penalty_T is not None:
            losses_N = losses_N + tokens.row_sums(penalty_T)
        return PolicyLoss(value=losses_N.sum() / totals.num_sequences, clipped_T=terms.clipped[tokens.rows_T])
