"""What a batch's loss is, as the learner is told it; and the loss of SFT. Dimensions: T = completion tokens.

The losses of reinforcement learning are in ``algorithms/``. Each returns a part of the loss of the *whole* batch: the
caller divides by sums over all ranks and micro-batches, so that the parts add up whatever the number of ranks.
"""

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """``kind``: ``sft``, or an algorithm's name as in ``rl.algorithm``. The rest is for algorithms alone.

    ``temperature``, ``top_k`` (0 is off) and ``top_p`` (1 is off): those that the rollouts were sampled with; not
    for SFT. ``max_tokens``: the longest completion that the sampler gives (tokens). ``kl_estimator``: adds
    ``kl_coefficient`` × KL(policy ‖ reference) to the loss.
    """

    kind: str
    clip_low: float = 0.2
    clip_high: float = 0.3
    truncation: float | None = 2.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int | None = None
    kl_estimator: Literal["k1", "k3"] | None = None
    kl_coefficient: float = 0.0


def sft_loss(logprobs_T: torch.Tensor, weights_T: torch.Tensor, total_weight: float) -> torch.Tensor:
    """−Σ w·logp / total weight: this micro-batch's part of the batch's mean cross entropy (nats a token)."""
    return -(weights_T * logprobs_T).sum() / total_weight
