"""Where a learner rank stands in its group."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RankAddress:
    """``host`` and ``port`` are rank 0's; ``local_rank`` is the device's index among those the process sees."""

    rank: int
    num_ranks: int
    host: str
    port: int
    local_rank: int = 0
