"""Who the controller talks to. Real ones are in the composition root; a benchmark may have simulated ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from residency.training.rollouts.finished_group import Call, FinishedGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A group that a step used up without learning from it."""

    group: FinishedGroup
    reason: str


class Sampler(Protocol):
    """Generators and verifiers."""

    async def sample(self, call: Call, begins: Callable[[], None]) -> Sequence[FinishedGroup]:
        """The call's groups, judged. Cancelled, its sequences leave the engine at once.

        ``begins`` is called whenever a generator is given the call, before its first token is sampled there.
        """
        ...

    async def give_up(self, call: Call, reason: str) -> None:
        """The call was cancelled and its groups will not be asked again."""
        ...


class LearnerLost(Exception):
    """The learner died in a step; ``cause`` says of what. What it was training on is not lost."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, kw_only=True, slots=True)
class Restoration:
    """A learner stands on the weights of ``step``; training on ``batches`` again brings it to where it was.

    A batch is the keys of its groups, as the journal has them: none for a step that learned nothing.
    """

    step: int
    batches: tuple[tuple[str, ...], ...] = ()


class Trainer(Protocol):
    """The learner, the journal and the publisher."""

    @property
    def lost(self) -> str | None:
        """Why the learner is of no more use, where that was found between two of its verbs: ``recover`` is due."""
        ...

    async def train(self, step: int, groups: Sequence[FinishedGroup], left_out: Sequence[LeftOut]) -> None:
        """One step, from the weights of ``step`` to those of ``step`` + 1, also where no group teaches.

        Journalled when it returns. Raises LearnerLost where the learner died.
        """
        ...

    async def train_again(self, step: int, keys: Sequence[str]) -> None:
        """A step that the journal holds once more, after a restoration. Raises LearnerLost as ``train`` does."""
        ...

    async def recover(self, cause: str) -> Restoration:
        """A new learner, on the last checkpoint. Raises the error that ends the run where there is no going on."""
        ...

    async def collect(self, step: int) -> Any:
        """The weights of ``step``, taken from the learner; it may train on as soon as this returns."""
        ...

    async def distribute(self, weights: Any) -> int:
        """Brings collected weights to the generators; the oldest step that any of them serves then."""
        ...

    async def drop(self, group: FinishedGroup, reason: str) -> None:
        """The group is used for nothing; journalled when it returns."""
        ...
