"""Losses over the completion tokens of one micro-batch. Dimensions: T = completion tokens.

Each returns a part of the *global* token mean: the caller divides by the weight of the whole batch over all ranks and
micro-batches, so that the parts add up to the loss whatever the number of ranks.
"""

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """``temperature`` is the one that the rollouts were sampled at (1 for SFT)."""

    kind: Literal["sft", "grpo"]
    clip_low: float = 0.2
    clip_high: float = 0.3
    truncation: float = 2.0
    temperature: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyTerms:
    """Per-token terms of the policy loss: ``loss_T`` before weights, ``ratio_T``, ``clipped_T`` (the clip bit)."""

    loss_T: torch.Tensor
    ratio_T: torch.Tensor
    clipped_T: torch.Tensor


def sft_loss(logprobs_T: torch.Tensor, weights_T: torch.Tensor, total_weight: float) -> torch.Tensor:
    """−Σ w·logp / total weight: this micro-batch's part of the batch's mean cross entropy (nats a token)."""
    return -(weights_T * logprobs_T).sum() / total_weight


def policy_terms(
    logprobs_T: torch.Tensor,
    old_logprobs_T: torch.Tensor,
    sampler_logprobs_T: torch.Tensor,
    advantages_T: torch.Tensor,
    config: LossConfig,
) -> PolicyTerms:
    """Clipped surrogate of GRPO (arXiv 2402.03300, eq. 3, without KL) with a truncated importance weight.

    ``old`` is the trainer's logprob before this step's update: the clip bounds how far the update goes. ``sampler`` is
    the engine's: min(exp(old − sampler), truncation) corrects for tokens that the engine sampled by other weights or
    kernels, and carries no gradient.
    """
    ratio_T = torch.exp(logprobs_T - old_logprobs_T)
    clipped_ratio_T = ratio_T.clamp(1 - config.clip_low, 1 + config.clip_high)
    plain_T, bounded_T = ratio_T * advantages_T, clipped_ratio_T * advantages_T
    importance_T = torch.exp(old_logprobs_T - sampler_logprobs_T).clamp(max=config.truncation).detach()
    return PolicyTerms(
        loss_T=-importance_T * torch.minimum(plain_T, bounded_T),
        ratio_T=ratio_T.detach(),
        clipped_T=(bounded_T < plain_T).detach(),
    )


def grpo_loss(terms: PolicyTerms, weights_T: torch.Tensor, total_weight: float) -> torch.Tensor:
    """Σ w·loss / total weight: this micro-batch's part of the batch's token mean."""
    return (weights_T * terms.loss_T).sum() / total_weight
