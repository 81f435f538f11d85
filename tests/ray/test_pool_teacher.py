"""Teachers on a generator pool behind the synthesis pipeline: real pools and journal, simulated engines."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from residency.actors.simulated_answers import load_simulated_config
from residency.actors.simulated_host import simulated_generators, start_simulated_host
from residency.platform.arrow_tables import to_table
from residency.platform.cli.stages.pool_teacher import EngineTurns, PoolTeacher
from residency.platform.cli.stages.trace_parts import write_verdict_parts
from residency.platform.clock import RealClock
from residency.platform.cluster import wait_for
from residency.platform.journal.journal import Journal
from residency.platform.journal.reader import read_state
from residency.platform.journal.state import Stage
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.pool import Pool
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Verdict
from residency.platform.run_folder import RunFolder
from residency.platform.verifiers.judging import judge
from residency.platform.work_queue import WorkQueue
from residency.synthesis.pipeline.ledger import read_ledger
from residency.synthesis.pipeline.pipeline import Pipeline
from residency.synthesis.pipeline.seats import Seat
from residency.synthesis.pipeline.traces import read_traces
from residency.synthesis.routing.next_action import Routing
from residency.training.idle_meter import IdleMeter

pytestmark = pytest.mark.timeout(240)
FAST = {"step_seconds": 0.0001, "sequence_seconds": 0.0, "update_seconds": 0.01}
ITEMS = [
    Item(
        id=f"item{row:04d}", content_key=str(row), source="set", split=Split.TRAIN, licence="CC0-1.0", cluster=str(row),
        question=f"which of {row}?", options=("ct", "mr"), answer="mr", answer_kind=AnswerKind.CHOICE,
        family=Family.MEDICAL_MULTIMODAL,
    )
    for row in range(300)
]  # fmt: skip


async def judge_here(pairs: Sequence[tuple[Item, str]]) -> list[Verdict]:
    return [judge(item, item.id, text, PromptMode.THINK, RewardConfig()) for item, text in pairs]


class Stand:
    """What a teacher needs of a crew, on a folder; engines log what they are asked."""

    def __init__(self, folder: Path) -> None:
        self.run, self.idle = RunFolder(folder), IdleMeter(RealClock())
        self.up: list[str] = []
        self.most_up = 0

    async def fetch(self, reference: Any, what: str) -> Any:
        return await wait_for(reference, "the object store", what, 60.0)

    def asked(self, name: str) -> list[dict[str, Any]]:
        path = self.run.path / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def seat(self, name: str, right: float, turns: EngineTurns, student: bool = False) -> Seat:
        pools: list[Pool] = []

        def start(_: str) -> Any:
            config = load_simulated_config().model_copy(update={**FAST, "right_probability": right})
            items = ray.put(to_table(ITEMS, Item))
            log = self.run.path / f"{name}.jsonl"
            return simulated_generators(start_simulated_host(1, config, items=items, log=log, num_cpus=0.1), 1)[0]

        async def open_pool() -> tuple[Pool, str]:
            pool = Pool(PoolConfig(role=name, start_seconds=60), start, events=lambda *_, **__: None)
            pools.append(await pool.__aenter__())
            await pool.ready()
            self.up.append(name)
            self.most_up = max(self.most_up, len(self.up))
            return pool, f"revision of {name}"

        async def close_pool() -> None:
            self.up.remove(name)
            await pools.pop().__aexit__()

        teacher = PoolTeacher(self, name, f"synthesize-{name}", 1, open_pool, close_pool, turns)  # type: ignore[arg-type]
        return Seat(teacher=teacher, student_prompt=student)

    def start(self, seats: list[Seat], turns: EngineTurns, samples: int = 3, stop_after: int = 0) -> SimpleNamespace:
        """One start of the driver; ``stop_after``: it dies once so many answers are on disk."""

        async def run() -> SimpleNamespace:
            with Journal.open(self.run.path / "journal") as journal:
                pipeline = Pipeline(
                    journal=journal, queue=WorkQueue(journal), folder=self.run.path / "synthesis", seats=seats,
                    routing=Routing(config=None, teachers=len(seats), samples=samples, temperature=1.0),
                    judge=judge_here, max_tokens=64,
                )  # fmt: skip
                turns.is_quiet = lambda: pipeline.is_quiet
                work = asyncio.create_task(pipeline.run(ITEMS))
                while stop_after and not work.done() and journal.state.count(Stage.ANSWERED) < stop_after:
                    await asyncio.sleep(0.01)
                if stop_after:
                    work.cancel()
                    await asyncio.gather(work, return_exceptions=True)
                    return SimpleNamespace(report=None)
                return SimpleNamespace(report=await asyncio.wait_for(work, 120.0))

        return asyncio.run(run())


def test_many_questions_are_few_calls_and_each_is_asked_once(ray_cluster: Any, tmp_path: Path) -> None:
    stand, turns = Stand(tmp_path), EngineTurns()
    done = stand.start([stand.seat("policy", 0.5, turns, student=True)], turns)
    assert done.report.items == 300
    assert done.report.dead_letters == 0
    rows = stand.asked("policy")
    # an item's samples are one row, but where a full call ends between them
    assert {row["item_id"] for row in rows} == {item.id for item in ITEMS}
    assert len(rows) <= len(ITEMS) + 3
    parts = sorted((tmp_path / "traces").glob("part-synthesize-policy-*.arrow"))
    assert 2 <= len(parts) <= 6
    ledger = read_ledger(tmp_path / "synthesis")
    assert ledger.num_rows == 900
    assert set(ledger.column("revision").to_pylist()) == {"revision of policy"}
    assert {trace.role for trace, _ in read_traces(tmp_path / "synthesis")} == {"policy"}
    write_verdict_parts(stand.run)
    ids = {
        kind: [
            key
            for number in range(len(parts))
            for key in stand.run.read_part(kind, "synthesize-policy", number).column(column).to_pylist()
        ]
        for kind, column in (("traces", "id"), ("verdicts", "trace_id"))
    }
    assert ids["traces"] == ids["verdicts"]
    assert sorted(ids["traces"]) == sorted(ledger.column("trace_id").to_pylist())


def test_teachers_take_turns_and_the_second_gets_what_the_first_left(ray_cluster: Any, tmp_path: Path) -> None:
    stand, turns = Stand(tmp_path), EngineTurns()
    done = stand.start([stand.seat("small", 0.3, turns), stand.seat("large", 1.0, turns)], turns, samples=2)
    assert (done.report.items, stand.most_up, stand.up) == (300, 1, [])
    ledger = read_ledger(tmp_path / "synthesis").to_pylist()
    solved_by_small = {row["item_id"] for row in ledger if (row["teacher"], row["accuracy"]) == ("small", 1.0)}
    asked_of_large = {row["item_id"] for row in ledger if row["teacher"] == "large"}
    assert asked_of_large == {item.id for item in ITEMS} - solved_by_small
    assert 0 < len(asked_of_large) < 300


def test_a_driver_that_ends_asks_only_what_has_no_answer(ray_cluster: Any, tmp_path: Path) -> None:
    stand, turns = Stand(tmp_path), EngineTurns()
    stand.start([stand.seat("policy", 0.5, turns, student=True)], turns, stop_after=300)
    state = read_state(tmp_path / "journal")
    answered = {key for key, now in state.keys.items() if now.stage in (Stage.ANSWERED, Stage.JUDGED)}
    assert 300 <= len(answered) < 900
    before = len(stand.asked("policy"))
    again = EngineTurns()
    done = stand.start([stand.seat("policy", 0.5, again, student=True)], again)
    assert done.report.items == 300
    later = Counter(row["item_id"] for row in stand.asked("policy")[before:])
    whole = {item.id for item in ITEMS if {f"synth/{item.id}/{n}" for n in range(3)} <= answered}
    assert not whole & later.keys()
    ledger = read_ledger(tmp_path / "synthesis")
    assert ledger.num_rows == 900
    assert len(set(ledger.column("key").to_pylist())) == 900


def test_engines_that_do_not_come_up_stop_the_run_and_cost_no_row(ray_cluster: Any, tmp_path: Path) -> None:
    from residency.platform.errors import RoleError
    from residency.synthesis.teachers.teacher import TeacherRefusedError

    stand, turns = Stand(tmp_path), EngineTurns()

    async def open_pool() -> tuple[Pool, str]:
        raise RoleError("no config.json")

    teacher = PoolTeacher(stand, "broken", "synthesize-broken", 1, open_pool, None, turns)  # type: ignore[arg-type]
    with pytest.raises(TeacherRefusedError, match="no config.json"):
        stand.start([Seat(teacher=teacher)], turns)
    again = EngineTurns()
    mended = stand.seat("broken", 1.0, again)
    assert stand.start([mended], again).report.items == 300
