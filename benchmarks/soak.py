"""Half an hour of RL without a rest: does any process grow, and does the object store return to its base?

    python benchmarks/soak.py [--minutes 30] [--settle-minutes 10]

The shipped conductor, controller, journal, pools, verifiers, synthesizer, publisher and learner group at work on
simulated engines, synchronous, 64 groups of 8 rollouts a step, as many steps as fit. DeepSpeed has a light stand-in
(`tests/chaos/light_learner.py`). Every 5 s each process of the run is asked for its proportional set size (PSS: pages
that processes share are counted once in all). A process grows by the median of its last minute less that of the first
minute after it has settled; a shorter soak settles for a third of its time. The object store's base is what lies in it
when RL begins; at the end, with all roles still up, it must hold no more, but for one update of the weights.
"""

import argparse
import asyncio
import importlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from node_store import store_bytes
from reporting import report

CHAOS = Path(__file__).resolve().parent.parent / "tests" / "chaos"
sys.path.insert(0, str(CHAOS))  # the stand-in for the learner, which the workers import as well
os.environ["PYTHONPATH"] = os.pathsep.join((str(CHAOS), str(CHAOS.parents[1] / "src")))

GROUPS, GROUP_SIZE, NUM_ITEMS = 64, 8, 512
GOALS = {"groups": 50_000, "growth_mib": 16.0, "growth_ratio": 0.02, "store_growth_mib": 1.0}
GOAL_MINUTES = 30
SAMPLE_SECONDS, WINDOW_SECONDS = 5.0, 60.0
MIB = 2**20
ENDLESS = 1 << 20  # steps: seconds end it
CACHE = Path(__file__).resolve().parent.parent / ".cache"  # on the disk of the checkout: /tmp may be memory


class Scale(threading.Thread):
    """Weighs this process and all below it again and again: (pid, title) → [(seconds since the start, PSS bytes)]."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.weights: dict[tuple[int, str], list[tuple[float, int]]] = defaultdict(list)
        self.began = time.monotonic()
        self._over = threading.Event()

    def run(self) -> None:
        here = psutil.Process()
        while not self._over.wait(SAMPLE_SECONDS):
            for process in [here, *here.children(recursive=True)]:
                with suppress(psutil.Error):  # a worker may end at any moment
                    title = "driver" if process == here else title_of(process)
                    size = process.memory_full_info().pss
                    self.weights[process.pid, title].append((time.monotonic() - self.began, size))

    def end(self) -> None:
        self._over.set()
        self.join(timeout=30)

    def growth(self, settled: float) -> list[dict[str, Any]]:
        """Of each process that was there from ``settled`` (seconds) to the end, the most first."""
        rows = []
        for (pid, title), weights in self.weights.items():
            end = weights[-1][0]
            window = min(WINDOW_SECONDS, (end - settled) / 3)
            early = [size for moment, size in weights if settled <= moment < settled + window]
            late = [size for moment, size in weights if moment > end - window]
            if not early or end < max(each[-1][0] for each in self.weights.values()) - 3 * SAMPLE_SECONDS:
                continue
            before, after = statistics.median(early) / MIB, statistics.median(late) / MIB
            allowed = GOALS["growth_mib"] + GOALS["growth_ratio"] * before
            rows.append(
                {
                    "process": title, "pid": pid, "settled_mib": round(before, 1), "end_mib": round(after, 1),
                    "growth_mib": round(after - before, 1), "share_of_allowed": round((after - before) / allowed, 3),
                }
            )  # fmt: skip
        return sorted(rows, key=lambda row: -row["share_of_allowed"])


def title_of(process: psutil.Process) -> str:
    """What it is; a Ray actor without the verb it is at."""
    line = process.cmdline()
    first = os.path.basename(line[0]) if line else process.name()
    if first.startswith("ray::"):
        return first.split(".")[0].split(" ")[0]
    return next((part for part in line if part.endswith(".py") or "judge_child" in part), first)[-40:]


def prepare(path: Path) -> Any:
    """A run whose RL is next."""
    import numpy as np

    from residency.platform.dataset_folder import DatasetCard, write_dataset
    from residency.platform.records import AnswerKind, Family, Item, Split
    from residency.platform.run_folder import RunFolder

    splits = [Split.TRAIN] * NUM_ITEMS + [Split.TUNE] * 2 + [Split.HELD_OUT] * 2
    items = [
        Item(
            id=f"item-{number:059d}", content_key=f"c-{number}", source="soak", split=split, licence="CC0",
            cluster=f"k-{number}", question=f"Sample {number}: how much of the drug was given?",
            answer=f"{number + 1} mg", answer_kind=AnswerKind.NUMBER, family=Family.TEXTUAL_REASONING,
        )
        for number, split in enumerate(splits)
    ]  # fmt: skip
    light, run = importlib.import_module("light_learner"), RunFolder(path)
    write_dataset(run.data, items, (), DatasetCard(name="soak", source="made here", licence="CC0", splits="by number"))
    for name in ("base", "sft"):
        light.write_weights(run.checkpoints / name, np.zeros(light.NUM_WEIGHTS, np.float32))
    (path / "lineage").mkdir()
    (path / "lineage" / "prompts.json").write_text(json.dumps([item.id for item in items if item.split == "train"]))
    for stage in importlib.import_module("chaos_job").BEFORE:
        run.finish_stage(stage, 0.0)
    return run


def settings() -> tuple[Any, Any]:
    """Recipe and profile."""
    from residency.platform.profiles import Profile
    from residency.platform.recipe import Recipe

    recipe = {
        "name": "soak",
        "student": {"max_prompt_tokens": 128, "max_new_tokens": 128},
        "data": {"format": "dataset", "source": "data"},
        "rl": {
            "steps": ENDLESS, "prompts_per_step": GROUPS, "group_size": GROUP_SIZE, "algorithm": "grpo",
            "max_mismatch": 1e9, "optimizer": {"learning_rate": 1e-3, "schedule": "constant"},
        },
        "checkpoints": {"every": 20, "keep_last": 2},
    }  # fmt: skip
    profile = {
        "name": "soak",
        "cluster_cpus": 8,
        "object_store_mib": 200,
        "generators": {"actors": 1, "cpus": 0.5, "max_sequences": 512},
        "verifiers": {"cpus": 0.1},
        "synthesizers": {"cpus": 0.1},
        "learners": {"actors": 2, "cpus": 0.25},
        "deadline_seconds": 240,
    }
    return Recipe.model_validate(recipe), Profile.model_validate(profile)


def soak(path: Path, seconds: float) -> dict[str, Any]:
    """The run; what the object store held, and the steps and groups that were trained on."""
    from residency.actors import learner_group
    from residency.actors.simulated_answers import load_simulated_config
    from residency.actors.simulated_generator import start_simulated_generator
    from residency.platform.arrow_tables import to_table
    from residency.platform.cli.crew import Crew
    from residency.platform.cli.screen import Screen
    from residency.platform.cli.stages.rl_stage import train_with_rewards
    from residency.platform.cluster import local_cluster, put
    from residency.platform.journal.journal import Journal
    from residency.platform.journal.state import Stage
    from residency.platform.records import Item, Split

    learner_group.join = partial(
        importlib.import_module("light_learner").join_light, batch_seconds=0.0, remembers=False
    )
    quick = {"median_tokens": 40, "p99_tokens": 120, "step_seconds": 1e-4, "sequence_seconds": 0, "update_seconds": 0}
    engine = load_simulated_config().model_copy(update={**quick, "max_sequences": 4096})
    run, (recipe, profile) = prepare(path), settings()
    run.open(recipe, profile)

    class SimulatedCrew(Crew):
        def start_engine(self, model_dir: Path, config: Any, *, placement: Any, label: str, role: str) -> Any:  # type: ignore[override]
            known = put(to_table(self.dataset.split(Split.TRAIN), Item))
            return start_simulated_generator(engine, items=known, placement=placement, label=label)

    async def live(journal: Journal) -> dict[str, Any]:
        stores: list[float] = []
        async with SimulatedCrew(recipe, profile, run, 0, Screen(quiet=True), journal) as crew:
            collect, step = crew.weights.collect, 0

            async def weighed(label: str) -> Any:
                """Between two steps: what was one step's must be gone by the next."""
                nonlocal step
                step += 1
                published = await collect(label)
                if step == 3:  # all roles are up, the first steps are over
                    stores.append(store_bytes() / MIB)
                return published

            crew.weights.collect = weighed
            outcome = await train_with_rewards(crew, "rl", "rl", crew.read_prompts(), ENDLESS, seconds)
            await asyncio.sleep(2.0)  # references go a moment after their last use
            stores.append(store_bytes() / MIB)
        states = [now.stage for now in journal.state.keys.values()]
        used_up = sum(stage in (Stage.TRAINED, Stage.DROPPED) for stage in states)
        return {
            "steps": outcome["steps"], "groups": used_up, "unfinished": len(states) - used_up,
            "store_base_mib": round(stores[0], 2), "store_end_mib": round(stores[1], 2),
        }  # fmt: skip

    with Journal.open(run.path / "journal") as journal, local_cluster(profile, run.logs):
        return asyncio.run(live(journal))


def main() -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    from residency.platform.cluster import prepare_environment

    prepare_environment()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=GOAL_MINUTES)
    parser.add_argument("--settle-minutes", type=float, default=10.0)
    chosen = parser.parse_args()
    seconds = 60 * chosen.minutes
    settled = min(60 * chosen.settle_minutes, seconds / 3)
    CACHE.mkdir(exist_ok=True)
    scale = Scale()
    scale.start()
    with tempfile.TemporaryDirectory(prefix="soak-", dir=CACHE) as folder:
        came_to = soak(Path(folder) / "run", seconds)
    scale.end()
    processes = scale.growth(settled)
    # a soak that is shorter shows less: it owes its share of the groups
    groups_due = GOALS["groups"] * chosen.minutes / GOAL_MINUTES
    holds = {
        "groups": came_to["groups"] >= groups_due and came_to["unfinished"] == 0,
        "growth": all(row["share_of_allowed"] <= 1 for row in processes),
        "store": came_to["store_end_mib"] <= came_to["store_base_mib"] + GOALS["store_growth_mib"],
    }
    report(
        "soak",
        processes[0]["share_of_allowed"],
        "of the growth that is allowed a process (2 % + 16 MiB of PSS), the most",
        1.0,
        all(holds.values()),
        {"holds": holds, "goals": GOALS, "minutes": chosen.minutes, "settled_minutes": settled / 60,
         **came_to, "processes": processes},
    )  # fmt: skip


if __name__ == "__main__":
    main()
