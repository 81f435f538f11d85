"""Estimators of KL(policy ‖ reference) from the tokens that the policy sampled (J. Schulman, 2020). T = tokens."""

from typing import Literal

import torch

from residency.training.algorithms.algorithm import PolicyTokens
from residency.training.losses import LossConfig


def kl_estimate(
    logprobs_T: torch.Tensor, reference_logprobs_T: torch.Tensor, estimator: Literal["k1", "k3"]
) -> torch.Tensor:
    """With r = reference / policy of a token: k1 = −log r; k3 = r − 1 − log r. Nats a token.

    Both have the KL as their mean; k3 is never negative and varies less. As a *loss* they differ: the gradient of k1
    is 0 on the average of on-policy samples, so that only k3 (GRPO, arXiv 2402.03300, eq. 4) pulls to the reference.
    """
    log_r_T = reference_logprobs_T - logprobs_T
    return -log_r_T if estimator == "k1" else torch.exp(log_r_T) - 1 - log_r_T


def kl_penalty(tokens: PolicyTokens, config: LossConfig) -> torch.Tensor | None:
    """Coefficient × estimate of each token, with its gradient; None where the recipe has no KL in the loss."""
    if config.kl_estimator is None:
        return None
    assert tokens.reference_logprobs_T is not None, "the engine scores the reference where the loss has KL"
    return config.kl_coefficient * kl_estimate(tokens.logprobs_T, tokens.reference_logprobs_T, config.kl_estimator)
