"""How long a learner group is away when a rank dies, against the parts that this cannot be shorter than.

    python benchmarks/learner_restart.py [--rounds N]

Asynchronous RL (staleness 1) on the job of the chaos suite: DeepSpeed's two ranks on a tiny Qwen2.5-VL are real, and so
are journal, pools and publisher; engines are simulated. Measured first, in the same process and on the same cluster:
the group's own start, and the load of a state checkpoint into live ranks. Then a rank is killed with SIGKILL in the
middle of a step, N times in one run. *Away* is from the kill to the new group standing on its checkpoint; *idle* is the
longest time in which no generator had a call, of the times that overlap with it. Goal: both at most start + load.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from residency.platform.cluster import prepare_environment

CHAOS = Path(__file__).resolve().parent.parent / "tests" / "chaos"
sys.path.insert(0, str(CHAOS))  # the job
prepare_environment()

from importlib import import_module  # noqa: E402

from reporting import report  # noqa: E402

from residency.actors.simulated_generator import start_simulated_generator  # noqa: E402
from residency.platform.arrow_tables import to_table  # noqa: E402
from residency.platform.cli.crew import Crew  # noqa: E402
from residency.platform.cli.screen import Screen  # noqa: E402
from residency.platform.cli.stages.rl_stage import train_with_rewards  # noqa: E402
from residency.platform.clock import RealClock  # noqa: E402
from residency.platform.cluster import local_cluster, put  # noqa: E402
from residency.platform.journal.journal import Journal  # noqa: E402
from residency.platform.profiles import Profile  # noqa: E402
from residency.platform.records import Item, PolicyVersion  # noqa: E402
from residency.platform.run_folder import RunFolder  # noqa: E402
from residency.training.idle_meter import IdleMeter  # noqa: E402

job: Any = import_module("chaos_job")
EVERY, STEPS_A_ROUND = 2, 4


class GapMeter(IdleMeter):
    """Keeps when generators had nothing to do, all of them at once."""

    def __init__(self) -> None:
        super().__init__(RealClock())
        self.gaps: list[tuple[float, float]] = []
        self._open, self._since = 0, time.monotonic()

    @contextmanager
    def busy(self, role: str, worker: str) -> Iterator[None]:
        with super().busy(role, worker):
            if role != "generator":
                yield
                return
            if not self._open:
                self.gaps.append((self._since, time.monotonic()))
            self._open += 1
            try:
                yield
            finally:
                self._open -= 1
                self._since = time.monotonic()


class Watched(Crew):
    """Engines are simulated; a rank is killed in the middle of each step of ``kill_in``; ``away`` are (from, to)."""

    kill_in: list[int]
    away: list[tuple[float, float]]

    def start_engine(self, model_dir: Path, config: Any, *, placement: Any, label: str, role: str) -> Any:  # type: ignore[override]
        items = put(to_table(job.items(), Item))
        return start_simulated_generator(job.engine_config("deepspeed"), items=items, placement=placement, label=label)

    async def encode_rollouts(self, *args: Any, **options: Any) -> Any:
        """The last thing before a step is computed."""
        batch = await super().encode_rollouts(*args, **options)
        if self.kill_in and self.journal.state.learner("rl").step >= self.kill_in[0]:
            self.kill_in.pop(0)
            victim = self.learners._births[1].pid
            asyncio.get_running_loop().call_later(0.02, self._kill, victim)
        return batch

    def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.away.append((time.monotonic(), 0.0))

    async def restart_learners(self, *args: Any, **options: Any) -> PolicyVersion:
        version = await super().restart_learners(*args, **options)
        self.away[-1] = self.away[-1][0], time.monotonic()
        return version


def profile() -> Profile:
    return Profile.model_validate(
        {
            "name": "restart", "cluster_cpus": 2, "object_store_mib": 100,
            "generators": {"actors": 2, "cpus": 0.25}, "learners": {"actors": 2, "cpus": 0.25},
            "verifiers": {"cpus": 0.1}, "synthesizers": {"cpus": 0.1}, "deadline_seconds": 900,
        }
    )  # fmt: skip


async def parts(crew: Watched, steps: int) -> dict[str, float]:
    """Seconds of the group's own start, and of loading a state checkpoint."""
    optimizer = crew.recipe.rl.optimizer
    await crew.media()
    began = time.monotonic()
    await crew.load_learners("sft", optimizer, steps)
    started = time.monotonic()
    await crew.save_learners("restart-probe", {"step": 0})
    saved = time.monotonic()
    await crew.load_learners("restart-probe", optimizer, steps, resume=True)
    return {"start": started - began, "save": saved - started, "load": time.monotonic() - saved}


async def measure(folder: Path, rounds: int) -> dict[str, Any]:
    steps = STEPS_A_ROUND * rounds + EVERY
    recipe = job.recipe_of("deepspeed")
    rl = recipe.rl.model_copy(update={"steps": steps, "staleness": 1})
    kept = recipe.checkpoints.model_copy(update={"every": EVERY})
    recipe = recipe.model_copy(update={"rl": rl, "checkpoints": kept})
    job.make_student(folder / "student")
    (folder / "run").mkdir()
    job.prepare(folder / "run", "deepspeed", folder / "student")
    run = RunFolder(folder / "run")
    on = profile()
    run.open(recipe, on)
    with local_cluster(on, run.logs), Journal.open(run.path / "journal") as journal:
        async with Watched(recipe, on, run, job.SEED, Screen(quiet=True), journal) as crew:
            crew.kill_in, crew.away, crew.idle = [], [], GapMeter()
            seconds = await parts(crew, steps)
            crew.kill_in = [STEPS_A_ROUND * number + EVERY + 1 for number in range(rounds)]
            outcome = await train_with_rewards(crew, "rl", "rl", job.prompts(), steps, None)
            assert outcome["steps"] == steps
            assert len(crew.away) == rounds
            idle = [longest_gap(crew.idle, away) for away in crew.away]
    away = [end - begin for begin, end in crew.away]
    return {"seconds": seconds, "away_seconds": away, "idle_seconds": idle, "steps": steps}


def longest_gap(meter: GapMeter, away: tuple[float, float]) -> float:
    return max((end - begin for begin, end in meter.gaps if begin < away[1] and end > away[0]), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="restart-") as folder:
        found = asyncio.run(measure(Path(folder), rounds))
    bound = found["seconds"]["start"] + found["seconds"]["load"]
    away, idle = (statistics.median(found[name]) / bound for name in ("away_seconds", "idle_seconds"))
    details = found | {"bound_seconds": bound, "away_ratio": away, "idle_ratio": idle}
    value = round(max(away, idle), 3)
    report("learner_restart", value, "of start + load", 1.0, value <= 1.0, details)


if __name__ == "__main__":
    main()
