"""An algorithm is two hooks: the advantages of a group (G), and the loss of a micro-batch (T tokens in N rows)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from residency.training.losses import LossConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyTokens:
    """The completion tokens of one micro-batch, row after row; ``rows_T`` says which of the N rows each belongs to.

    ``logprobs_T`` carries the gradient. ``old`` is the trainer's own before this update, ``sampler`` the engine's,
    ``reference`` the frozen model's (None unless the recipe has KL in the loss). A row of weight 0 is padding.
    """

    logprobs_T: torch.Tensor
    old_logprobs_T: torch.Tensor
    sampler_logprobs_T: torch.Tensor
    reference_logprobs_T: torch.Tensor | None
    advantages_T: torch.Tensor
    weights_T: torch.Tensor
    rows_T: torch.Tensor  # int64
    num_rows: int

    def row_sums(self, values_T: torch.Tensor) -> torch.Tensor:
        """Σ w·value of each row [N]."""
        return values_T.new_zeros(self.num_rows).index_add(0, self.rows_T, self.weights_T * values_T)

    def row_weights(self) -> torch.Tensor:
        """Σ w of each row [N]: its length in tokens, 0 for padding."""
        return self.row_sums(torch.ones_like(self.weights_T))

    def row_advantages(self) -> torch.Tensor:
        """The advantage of each row [N]."""
        return self.advantages_T.new_zeros(self.num_rows).scatter(0, self.rows_T, self.advantages_T)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchTotals:
    """Sums over the whole batch, all ranks and micro-batches: what a loss divides by."""

    weight: float  # of all completion tokens
    num_sequences: int  # rows with weight


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyLoss:
    """``value``: this micro-batch's part of the batch's loss, a scalar; ``clipped_T``: where the clip bit (bool)."""

    value: torch.Tensor
    clipped_T: torch.Tensor


class Algorithm(Protocol):
    """What ``rl.algorithm`` names. It keeps no state: it is made without arguments, in the driver and on each rank."""

    def advantages(self, scores_G: Sequence[float]) -> Sequence[float]:
        """One number a rollout. The scores are of one prompt, at least two, and not all equal."""
        ...

    def loss(self, tokens: PolicyTokens, totals: BatchTotals, config: LossConfig) -> PolicyLoss:
        """This micro-batch's part of the loss: over all micro-batches of all ranks the parts must add up to it."""
        ...
