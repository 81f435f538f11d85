"""What a start of the pipeline came to."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from residency.platform.errors import DataError
from residency.platform.records import Item, Verdict
from residency.synthesis.pipeline.settling import unjudged
from residency.synthesis.routing.actions import Accept, Drop
from residency.synthesis.teachers.budget import Spent

Judge = Callable[[Sequence[tuple[Item, str]]], Awaitable[Sequence[Verdict]]]


@dataclass(kw_only=True)
class PipelineReport:
    """Items by how they ended in this start; ``finished_before`` ended in an earlier one.

    ``stopped`` says why it ended early, and is empty where every item has its end.
    """

    accepted: int = 0
    rejected: int = 0
    dead_letters: int = 0
    finished_before: int = 0
    traces: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    stopped: str = ""
    spent: Spent = field(default_factory=Spent)

    @property
    def items(self) -> int:
        return self.accepted + self.rejected + self.dead_letters + self.finished_before

    def count(self, action: Accept | Drop) -> None:
        if isinstance(action, Accept):
            self.accepted += 1
        else:
            self.rejected += 1
            self.reasons[action.reason] = self.reasons.get(action.reason, 0) + 1


async def judge_each(judge: Judge, pairs: Sequence[tuple[Item, str]]) -> list[Verdict]:
    """Verdicts of all pairs; where one item cannot be judged, the others still are, and it gets an error verdict."""
    if not pairs:
        return []
    try:
        return list(await judge(pairs))
    except DataError as error:
        if len(pairs) == 1:
            return [unjudged(pairs[0][0], str(error))]
    half = len(pairs) // 2
    return [*await judge_each(judge, pairs[:half]), *await judge_each(judge, pairs[half:])]
