"""Items, a teacher that says what it is told, and a pipeline on a journal of its own."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from residency.platform.journal.journal import Journal
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Verdict
from residency.platform.synthesis_config import BudgetConfig, RoutingConfig
from residency.platform.verifiers.judging import judge
from residency.platform.work_queue import WorkQueue
from residency.synthesis.pipeline.accounts import PipelineReport
from residency.synthesis.pipeline.pipeline import Pipeline
from residency.synthesis.pipeline.seats import Seat
from residency.synthesis.routing.next_action import Routing
from residency.synthesis.teachers.teacher import TeacherReply, TeacherRequest

RIGHT = "<think>It is round, so yes.</think><answer>yes</answer>"
WRONG = "<think>It is long, so no.</think><answer>no</answer>"
Say = Callable[[TeacherRequest], str | Exception]


class ToldTeacher:
    """Says what ``say`` returns (raises it where it is an error); "" is malformed. ``asked`` is its own log."""

    in_flight = 8

    def __init__(self, say: Say, name: str = "told") -> None:
        self.name, self.say = name, say
        self.asked: list[TeacherRequest] = []

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        self.asked.append(request)
        await asyncio.sleep(0.001)
        said = self.say(request)
        if isinstance(said, Exception):
            raise said
        fault = "" if said else "the completion is empty"
        return TeacherReply(
            text=said, finish_reason="stop", tokens_in=10, tokens_out=5, cost=0.01, model=self.name, fault=fault
        )

    async def close(self) -> None:
        """Holds nothing."""


def make_items(number: int, **more: Any) -> list[Item]:
    return [
        Item(
            id=f"item{row:04d}", content_key=str(row), source="set", split=Split.TRAIN, licence="CC0", cluster=str(row),
            question=f"Is number {row} round?", answer="yes", answer_kind=AnswerKind.YES_NO,
            family=Family.TEXTUAL_REASONING, metadata={"row": f"line {row}"}, **more,
        )
        for row in range(number)
    ]  # fmt: skip


async def judge_here(pairs: Sequence[tuple[Item, str]]) -> list[Verdict]:
    return [judge(item, item.id, text, PromptMode.THINK, RewardConfig()) for item, text in pairs]


class Bench:
    """``run`` is one start of the driver on the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "synthesis"
        self.make_items = make_items
        self.right, self.wrong = RIGHT, WRONG
        self.told, self.judge = ToldTeacher, judge_here

    def run(
        self,
        items: Iterable[Item],
        *teachers: ToldTeacher,
        routing: RoutingConfig | None = None,
        samples: int = 1,
        budget: BudgetConfig | None = None,
        judging: Any = judge_here,
        take_up: bool = False,
        structured: bool = False,
    ) -> PipelineReport:
        async def start() -> PipelineReport:
            with Journal.open(self.folder / "journal") as journal:
                queue = WorkQueue(journal)
                if take_up:
                    await queue.take_up([letter.key for letter in queue.dead_letters()])
                pipeline = Pipeline(
                    journal=journal, queue=queue, folder=self.logs,
                    seats=[Seat(teacher=teacher, structured=structured) for teacher in teachers],
                    routing=Routing(config=routing, teachers=len(teachers), samples=samples, temperature=1.0),
                    judge=judging, max_tokens=64, budget=budget,
                )  # fmt: skip
                return await asyncio.wait_for(pipeline.run(items), 30.0)

        return asyncio.run(start())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
