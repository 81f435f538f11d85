"""Dr. GRPO: GRPO without its biases of length and of difficulty (arXiv 2503.20783)."""

from collections.abc import Sequence

from residency.training.algorithms.advantages import centred
from residency.training.algorithms.algorithm import BatchTotals, PolicyLoss, PolicyTokens
from residency.training.algorithms.surrogate import token_surrogate
from residency.training.losses import LossConfig


class DrGrpo:
    """§3.2: −1/G Σᵢ 1/L Σₜ min(r·A, clip(r)·A) with L a constant, the longest completion that may be sampled."""

    def advantages(self, scores_G: Sequence[float]) -> list[float]:
        """r − mean: no division by the std, §3.2."""
        return centred(scores_G)

    def loss(self, tokens: PolicyTokens, totals: BatchTotals, config: LossConfig) -> PolicyLoss:
        assert config.max_tokens is not None, "Dr. GRPO needs LossConfig.max_tokens"
        terms = token_surrogate(tokens, config)
        value = (tokens.weights_T * terms.loss).sum() / (totals.num_sequences * config.max_tokens)
        return PolicyLoss(value=value, clipped_T=terms.clipped)
