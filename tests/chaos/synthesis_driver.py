"""A synthesis job to be killed: the real pipeline over a local endpoint.

    python tests/chaos/synthesis_driver.py RUN URL NUM_ITEMS [IN_FLIGHT]

Started again on the same folder it goes on; it exits with 0 when every item has its end. Its last line is
JSON: the items by their end, seconds, and CPU seconds of this process without its start.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from residency.platform.journal.journal import Journal
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Verdict
from residency.platform.synthesis_config import TeacherConfig
from residency.platform.verifiers.judging import judge
from residency.platform.work_queue import WorkQueue
from residency.synthesis.pipeline.accounts import PipelineReport
from residency.synthesis.pipeline.pipeline import Pipeline
from residency.synthesis.pipeline.seats import Seat
from residency.synthesis.routing.next_action import Routing
from residency.synthesis.teachers.openai_teacher import OpenAITeacher

REWARD = RewardConfig()


def items(number: int) -> Iterator[Item]:
    for row in range(number):
        yield Item(
            id=f"item-{row:07d}", content_key=str(row), source="chaos", split=Split.TRAIN, licence="CC0",
            cluster=str(row), question=f"Is finding {row} benign?", answer="yes", answer_kind=AnswerKind.YES_NO,
            family=Family.TEXTUAL_REASONING,
        )  # fmt: skip


async def judge_here(pairs: Sequence[tuple[Item, str]]) -> list[Verdict]:
    return [judge(item, item.id, text, PromptMode.THINK, REWARD) for item, text in pairs]


def no_image(media: str) -> bytes:
    raise AssertionError(f"an item of text asked for the image {media}")


async def drive(run: Path, url: str, number: int, in_flight: int) -> PipelineReport:
    with Journal.open(run / "journal") as journal:
        teacher = OpenAITeacher(TeacherConfig(kind="openai", model="local", url=url, in_flight=in_flight), no_image)
        pipeline = Pipeline(
            journal=journal, queue=WorkQueue(journal), folder=run / "synthesis", seats=[Seat(teacher=teacher)],
            routing=Routing(config=None, teachers=1, samples=1, temperature=1.0), judge=judge_here, max_tokens=200,
        )  # fmt: skip
        return await pipeline.run(items(number))


if __name__ == "__main__":
    began, began_cpu = time.perf_counter(), time.process_time()
    report = asyncio.run(drive(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int([*sys.argv, "256"][4])))
    print(json.dumps({
        "accepted": report.accepted, "rejected": report.rejected, "dead_letters": report.dead_letters,
        "finished_before": report.finished_before, "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - began_cpu,
    }))  # fmt: skip
