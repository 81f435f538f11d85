"""How many groups may be asked now, so that none of their tokens is too old when it is trained on. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """``staleness`` is η, in optimizer steps; a step takes ``groups_per_step`` groups, ``num_steps`` are wanted.

    A group that is asked while the oldest weights on the generators are those of step ``served`` must be consumed at
    step ``served`` + η or before. The steps from the present one to that take so many groups and no more: as long as
    all that is under way fits into them, taking the oldest first keeps the bound, whatever comes back when.
    """

    groups_per_step: int
    staleness: int
    num_steps: int
    oversample: float = 1.0

    def room(self, step: int, served: int, under_way: int) -> int:
        """Groups that may be asked now. ``under_way``: asked or finished, and not consumed."""
        last = min(served + self.staleness, self.num_steps - 1)
        return math.ceil(self.oversample * self.groups_per_step) * max(0, last - step + 1) - under_way

    def is_safe(self, step: int, finished: Mapping[int, int], asked: Mapping[int, int]) -> bool:
        """Whether ``step`` may take the oldest of ``finished`` without waiting for any of ``asked``.

        Both are numbers of groups by the step of the oldest weights behind them. For every later step: what must be
        consumed by then, and is not taken now, must find room in the steps from now to then.
        """
        for last in range(step, step + self.staleness + 1):
            ready = sum(number for sampled, number in finished.items() if sampled + self.staleness <= last)
            out = sum(number for sampled, number in asked.items() if sampled + self.staleness <= last)
            if max(0, ready - self.groups_per_step) + out > (last - step) * self.groups_per_step:
                return False
        return True

    def is_too_old(self, step: int, sampled: int) -> bool:
        """Whether the weights of ``step`` may not consume them any more."""
        return sampled + self.staleness < step
