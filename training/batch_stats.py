"""What one pass over a batch came to: sums, so that ranks and micro-batches add up without communication."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchStats:
    """``loss`` is already a part of the global token mean. The ``*_sum`` are over tokens of weight above zero.

    ``mismatch`` is |trainer's − sampler's logprob| of a token (nats), ``fresh`` of those rows alone that were sampled
    wholly by the weights that are trained (others differ by policy); ``ratio`` exp(trainer's − sampler's), ``kl`` the
    estimate of KL(policy ‖ reference) where it is in the loss.
    """

    num_rows: int = 0
    num_tokens: int = 0  # completion tokens with weight
    num_input_tokens: int = 0  # prompt and completion, without padding
    num_micro_batches: int = 0
    loss: float = 0.0
    entropy_sum: float = 0.0
    mismatch_sum: float = 0.0
    mismatch_max: float = 0.0
    num_fresh_tokens: int = 0
    fresh_mismatch_sum: float = 0.0
    fresh_mismatch_max: float = 0.0
    ratio_sum: float = 0.0
    clipped_sum: float = 0.0
    kl_sum: float = 0.0
    seconds: float = 0.0  # of the slowest rank

    def _mean(self, total: float) -> float:
        return total / self.num_tokens if self.num_tokens else 0.0

    @property
    def entropy(self) -> float:
        return self._mean(self.entropy_sum)

    @property
    def mismatch(self) -> float:
        return self._mean(self.mismatch_sum)

    @property
    def ratio(self) -> float:
        return self._mean(self.ratio_sum)

    @property
    def clipped_share(self) -> float:
        return self._mean(self.clipped_sum)

    @property
    def kl(self) -> float:
        return self._mean(self.kl_sum)


def add_stats(parts: Iterable[BatchStats], *, parallel: bool) -> BatchStats:
    """The sum of parts; seconds are the longest of parallel parts, the sum of serial ones."""
    every = list(parts)
    return BatchStats(
        num_rows=sum(part.num_rows for part in every),
        num_tokens=sum(part.num_tokens for part in every),
        num_input_tokens=sum(part.num_input_tokens for part in every),
        num_micro_batches=sum(part.num_micro_batches for part in every),
        loss=sum(part.loss for part in every),
        entropy_sum=sum(part.entropy_sum for part in every),
        mismatch_sum=sum(part.mismatch_sum for part in every),
        mismatch_max=max((part.mismatch_max for part in every), default=0.0),
        num_fresh_tokens=sum(part.num_fresh_tokens for part in every),
        fresh_mismatch_sum=sum(part.fresh_mismatch_sum for part in every),
        fresh_mismatch_max=max((part.fresh_mismatch_max for part in every), default=0.0),
        ratio_sum=sum(part.ratio_sum for part in every),
        clipped_sum=sum(part.clipped_sum for part in every),
        kl_sum=sum(part.kl_sum for part in every),
        seconds=max((part.seconds for part in every), default=0.0) if parallel else sum(part.seconds for part in every),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStats:
    """One optimizer step: its number after the step, the rate that was used, the gradient's norm before clipping."""

    step: int
    learning_rate: float
    gradient_norm: float
    seconds: float
