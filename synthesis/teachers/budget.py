"""What synthesis has spent and may spend: tokens, money and hours, over all starts of a run."""

import time
from collections.abc import Callable

from msgspec import Struct

from residency.platform.synthesis_config import BudgetConfig


class Spent(Struct, kw_only=True):
    """Sums over all teachers; ``seconds`` at work, not counting the pauses between two starts."""

    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    seconds: float = 0.0


class Budget:
    """``before`` is what earlier starts spent. What is in flight when a limit is met still ends, and is counted."""

    def __init__(self, config: BudgetConfig, before: Spent, now: Callable[[], float] = time.monotonic) -> None:
        self._config, self._before, self._now = config, before, now
        self._began = now()
        self.tokens_in, self.tokens_out, self.money = before.tokens_in, before.tokens_out, before.money

    def add(self, tokens_in: int, tokens_out: int, money: float) -> None:
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.money += money

    @property
    def spent(self) -> Spent:
        return Spent(
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            money=self.money,
            seconds=self._before.seconds + self._now() - self._began,
        )

    def exhausted(self) -> str:
        """Which limit is met, in words with the numbers; empty where none is."""
        limits, tokens = self._config, self.tokens_in + self.tokens_out
        if limits.tokens is not None and tokens >= limits.tokens:
            return f"{tokens} of {limits.tokens} tokens are spent: raise synthesis.budget.tokens to go on"
        if limits.money is not None and self.money >= limits.money:
            return f"{self.money:.4f} of {limits.money:g} in money is spent: raise synthesis.budget.money to go on"
        if limits.hours is not None:
            hours = (self._before.seconds + self._now() - self._began) / 3600
            if hours >= limits.hours:
                return f"{hours:.2f} of {limits.hours:g} hours are spent: raise synthesis.budget.hours to go on"
        return ""
