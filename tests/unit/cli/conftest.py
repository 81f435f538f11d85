"""A run whose synthesis was done by the real pipeline with a told teacher: small, whole, and without Ray."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from residency.platform.arrow_tables import to_table, write_parquet
from residency.platform.cli.remixing import remix
from residency.platform.dataset_folder import DatasetCard, write_dataset
from residency.platform.journal.journal import Journal
from residency.platform.profiles import Profile, load_profile
from residency.platform.recipe import Recipe, RewardConfig
from residency.platform.records import AnswerKind, Example, Family, Item, PromptMode, Split, Verdict
from residency.platform.run_folder import RunFolder
from residency.platform.shipped import find
from residency.platform.verifiers.judging import judge
from residency.platform.work_queue import WorkQueue
from residency.synthesis.examples import direct_example
from residency.synthesis.lineage.pool_file import write_pool
from residency.synthesis.pipeline.pipeline import Pipeline
from residency.synthesis.pipeline.seats import Seat
from residency.synthesis.pipeline.traces import read_traces
from residency.synthesis.routing.next_action import Routing
from residency.synthesis.synthesized import summarize, synthesize
from residency.synthesis.teachers.teacher import TeacherReply, TeacherRequest

RIGHT = "<think>A round cell has no corners. So the answer is yes.</think><answer>yes</answer>"
WRONG = "<think>It looks long to me. So the answer is no.</think><answer>no</answer>"
Say = Callable[[TeacherRequest], str | Exception]
FAMILIES = tuple(Family)


def wrong_then_right(request: TeacherRequest) -> str:
    return RIGHT if request.sample else WRONG


class Told:
    """Says what it is told, for a price."""

    name, in_flight = "told", 8

    def __init__(self, say: Say = wrong_then_right) -> None:
        self.say = say
        self.asked: list[str] = []

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        self.asked.append(request.key)
        said = self.say(request)
        if isinstance(said, Exception):
            raise said
        return TeacherReply(
            text=said, finish_reason="stop", tokens_in=20, tokens_out=10, cost=0.5, model="told-1", revision="r7"
        )

    async def close(self) -> None:
        """Holds nothing."""


async def judge_here(pairs: Sequence[tuple[Item, str]]) -> list[Verdict]:
    return [judge(item, item.id, text, PromptMode.THINK, RewardConfig()) for item, text in pairs]


def make_items(number: int) -> list[Item]:
    return [
        Item(
            id=f"item{row:04d}", content_key=str(row), source="set", split=Split.TRAIN, licence="CC0-1.0",
            cluster=str(row), question=f"Is cell {row} round?", answer="yes", answer_kind=AnswerKind.YES_NO,
            family=FAMILIES[row % 3], metadata={"row": f"line {row}"},
        )
        for row in range(number)
    ]  # fmt: skip


def make_recipe(**synthesis: Any) -> Recipe:
    teacher = {"kind": "openai", "model": "told", "url": "http://127.0.0.1:1/v1"}
    return Recipe.model_validate(
        {
            "name": "made",
            "data": {"format": "dataset", "source": "data"},
            "synthesis": {"teachers": [teacher], "samples": 2, **synthesis},
            "mixture": {
                "examples": 20,
                "targets": {"direct": 0.3, "cot": 0.4, "reflective": 0.3},
                "families": {"medical_multimodal": 0.4, "general_multimodal": 0.3, "textual_reasoning": 0.3},
            },
        }
    )


def laptop() -> Profile:
    return load_profile(find("profiles", "laptop"))


def ask(run: RunFolder, items: Sequence[Item], teacher: Told, recipe: Recipe) -> None:
    """One start of the pipeline on the run's journal."""

    async def start() -> None:
        with Journal.open(run.path / "journal") as journal:
            pipeline = Pipeline(
                journal=journal, queue=WorkQueue(journal), folder=run.path / "synthesis", seats=[Seat(teacher=teacher)],
                routing=Routing.of(recipe.synthesis, 1), judge=judge_here, max_tokens=64,
            )  # fmt: skip
            await asyncio.wait_for(pipeline.run(items), 30.0)

    asyncio.run(start())


def make_run(folder: Path, number: int = 30, say: Say = wrong_then_right, **synthesis: Any) -> RunFolder:
    """A run with `synthesize` done: ledger, pool, mixture, stages."""
    recipe, run, items = make_recipe(**synthesis), RunFolder(folder), make_items(number)
    run.open(recipe, laptop())
    write_dataset(run.data, items, [], DatasetCard(name="made", source="-", licence="CC0-1.0", splits="-"))
    ask(run, items, Told(say), recipe)
    finish(run, items, recipe)
    for stage in ("data", "student", "synthesize"):
        run.finish_stage(stage, 1.0)
    return run


def finish(run: RunFolder, items: Sequence[Item], recipe: Recipe) -> None:
    """Examples and mixture out of what the pipeline left."""
    pairs = list(read_traces(run.path / "synthesis"))
    traces, verdicts = [trace for trace, _ in pairs], [verdict for _, verdict in pairs]
    examples, outcomes = synthesize(items, traces, verdicts, recipe.synthesis, 200, 0)
    write_parquet(outcomes, run.path / "lineage" / "outcomes.parquet")
    write_pool(run.path, [to_table([direct_example(item) for item in items], Example), to_table(examples, Example)])
    run.update_summary(synthesis=summarize(examples, outcomes))
    remix(run, recipe, 0)


@pytest.fixture
def made() -> SimpleNamespace:
    """What tests need of this file."""
    return SimpleNamespace(
        run=make_run, recipe=make_recipe, items=make_items, ask=ask, finish=finish, Told=Told, laptop=laptop,
        right=RIGHT, wrong=WRONG, wrong_then_right=wrong_then_right,
    )  # fmt: skip
