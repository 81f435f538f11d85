"""What the controller moves: calls on their way out, and groups that have come back judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """Prompts that are asked together, once. ``number`` counts calls, and alone decides which prompts they are."""

    number: int
    item_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedGroup:
    """The G judged rollouts of one prompt. A score is None where our own verifier failed.

    ``token_steps``: optimizer step of the weights → number of tokens that they sampled. ``payload`` is whatever the
    trainer needs to find the rollouts; the controller never looks at it.
    """

    key: str
    item_id: str
    trace_ids: tuple[str, ...]
    scores: tuple[float | None, ...]
    token_steps: Mapping[int, int]
    payload: Any = None

    @property
    def oldest_step(self) -> int:
        """Of its oldest token; a group without any token is of no age."""
        return min(self.token_steps, default=0)

    def staleness(self, step: int) -> dict[int, int]:
        """Steps behind → tokens, when it is consumed by the weights of ``step`` (DESIGN §7)."""
        return {step - sampled: number for sampled, number in self.token_steps.items()}
