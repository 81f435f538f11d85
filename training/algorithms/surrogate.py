"""The clipped surrogate of a ratio, as PPO has it, with the truncated correction of what was really sampled."""

from dataclasses import dataclass

import torch

from residency.training.algorithms.algorithm import PolicyTokens
from residency.training.algorithms.kl import kl_penalty
from residency.training.losses import LossConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateTerms:
    """``loss``: −importance · min(ratio·A, clip(ratio)·A), before weights; ``clipped``: where the clip bit (bool)."""

    loss: torch.Tensor
    clipped: torch.Tensor


def clipped_surrogate(
    log_ratio: torch.Tensor, log_importance: torch.Tensor, advantages: torch.Tensor, config: LossConfig
) -> SurrogateTerms:
    """Per token, or per sequence: whatever the tensors are of. All three have the same shape.

    ``log_ratio``: the policy's logprob minus its own before this step's update; the clip bounds how far the update
    goes. ``log_importance``: that earlier one minus the sampler's. min(exp(log_importance), truncation) corrects for
    what the engine sampled by other weights or kernels (truncated importance sampling), and carries no gradient;
    without a truncation the weight is 1: no correction.
    """
    ratio = torch.exp(log_ratio)
    clipped_ratio = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    plain, bounded = ratio * advantages, clipped_ratio * advantages
    least, clipped = torch.minimum(plain, bounded), (bounded < plain).detach()
    if config.truncation is None:
        return SurrogateTerms(loss=-least, clipped=clipped)
    importance = torch.exp(log_importance).clamp(max=config.truncation).detach()
    return SurrogateTerms(loss=-importance * least, clipped=clipped)


def token_surrogate(tokens: PolicyTokens, config: LossConfig) -> SurrogateTerms:
    """The surrogate of every token [T], plus the KL penalty where the recipe has KL in the loss."""
    terms = clipped_surrogate(
        tokens.logprobs_T - tokens.old_logprobs_T,
        tokens.old_logprobs_T - tokens.sampler_logprobs_T,
        tokens.advantages_T,
        config,
    )
    penalty_T = kl_penalty(tokens, config)
    return terms if penalty_T is None else SurrogateTerms(loss=terms.loss + penalty_T, clipped=terms.clipped)
