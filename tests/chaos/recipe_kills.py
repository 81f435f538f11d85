"""A whole recipe killed (`kill -9`) at random moments of every stage: is what it trained on that of an unbroken run?

    python tests/chaos/recipe_kills.py [--recipe starter] [--set a.b=c …] [--kills 10] [--seed 0] [--work FOLDER]

Runs the recipe once unbroken and once with kills, all roles real, and compares the two journals and the weights: every
RL group in the same optimizer step, in the same order, and nothing asked again that had been answered. Prints a table,
and one JSON line at the end. The same command with the same --work goes on with the runs that are there.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from residency.platform.journal.reader import JournalReader
from residency.platform.journal.records import Admitted, Answered, Record, Released, Requested, Restored, Trained

LIFE_SECONDS = 3600.0  # a driver that is not done by then hangs
CHECKPOINTS = ("base", "warm_up", "sft", "rl")
Step = tuple[str, int, tuple[str, ...]]  # learner, step, its groups in order


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Where a kill was aimed: ``share`` of the stage's unbroken seconds after its predecessor ended."""

    stage: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the two runs came to; ``faults`` says in words what must not be."""

    kills: tuple[str, ...]
    lives: int
    steps: int
    groups: int
    admitted: int
    asked: int
    reasked: int
    in_flight: int  # at the kills, all together: the most that may be asked again
    same_weights: dict[str, bool]
    faults: tuple[str, ...]


def finished(run: Path) -> dict[str, float]:
    """Stage → its seconds, as far as the run has come."""
    path = run / "journal" / "stages.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return {row["stage"]: row["seconds"] for row in rows}


def start(recipe: str, run: Path, settings: list[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "residency.platform.cli.app", "run", recipe, "--run", str(run)]
    for setting in settings:
        command += ["--set", setting]
    log = (run.parent / f"{run.name}.log").open("ab")
    environment = dict(os.environ, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a" * 64)
    try:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    finally:
        log.close()


def finish(recipe: str, run: Path, settings: list[str]) -> None:
    """One life to the end; raises RuntimeError where it fails."""
    driver = start(recipe, run, settings)
    try:
        code = driver.wait(timeout=LIFE_SECONDS)
    finally:
        driver.kill()
        driver.wait(10)
    if code:
        raise RuntimeError(f"the run failed with exit code {code}: see {run}.log")


def plan_kills(seconds: dict[str, float], num_kills: int, rng: random.Random) -> list[Kill]:
    """Moments spread evenly over the unbroken run's time, in its order: each is somewhere in its own slice of it."""
    whole, kills = sum(seconds.values()), []
    for number in range(num_kills):
        moment = (number + rng.random()) / num_kills * whole
        for stage, length in seconds.items():
            if moment < length:
                kills.append(Kill(stage=stage, share=moment / length))
                break
            moment -= length
    return kills


def kill_at(recipe: str, run: Path, settings: list[str], aim: Kill, seconds: dict[str, float]) -> bool:
    """One life that is killed at its moment; False where the run was over before."""
    stages = list(seconds)
    before = stages[: stages.index(aim.stage)]
    driver, deadline = start(recipe, run, settings), time.monotonic() + LIFE_SECONDS
    try:
        while driver.poll() is None and not set(before) <= set(finished(run)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{run} did not reach {aim.stage} in {LIFE_SECONDS:.0f} s")
            time.sleep(0.05)
        moment = time.monotonic() + aim.share * seconds[aim.stage]
        while driver.poll() is None and time.monotonic() < moment:
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    finally:
        driver.kill()
        code = driver.wait(timeout=10)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the run failed by itself with exit code {code}: see {run}.log")
    return code != 0


def records(run: Path) -> Iterator[Record]:
    for frame in JournalReader(run / "journal").frames():
        yield from frame.records


def trained_steps(run: Path) -> list[Step]:
    """The steps in the ancestry of the last weights: what a restart from a checkpoint went back behind is cut off."""
    steps: dict[str, list[Step]] = {}
    for record in records(run):
        if isinstance(record, Restored):
            line = steps.get(record.learner, [])
            steps[record.learner] = [step for step in line if step[1] <= record.parent_step]
        elif isinstance(record, Trained):
            steps.setdefault(record.learner, []).append((record.learner, record.step, record.keys))
    return [step for line in steps.values() for step in line]


def asked_again(run: Path) -> tuple[int, int, int, list[str]]:
    """Requests, requests repeated, requests in flight at the ends of lives, and what was asked after its answer."""
    asked: Counter[str] = Counter()
    answered, flying = set[str](), set[str]()
    in_flight, faults = 0, list[str]()
    for record in records(run):
        match record:
            case Requested():
                asked[record.key] += 1
                flying.add(record.key)
                if record.key in answered:
                    faults.append(f"{record.key} was asked again after its answer")
            case Answered():
                answered.add(record.key)
                flying.discard(record.key)
            case Released():
                in_flight += 1  # a new driver gives back what the last one had under way
                flying.discard(record.key)
            case _:
                continue
    faults += [f"{key} was asked and never answered" for key in sorted(flying)]
    return asked.total(), sum(number - 1 for number in asked.values()), in_flight, faults


def admitted(run: Path, learners: set[str]) -> set[str]:
    """Groups of RL that were admitted: (group, step) stands in the key."""
    keys = {record.key for record in records(run) if isinstance(record, Admitted)}
    return {key for key in keys if key.rsplit("/", 1)[0].rpartition("-")[0] in learners}


def digest(run: Path, checkpoint: str) -> str:
    path = run / "checkpoints" / checkpoint / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def judge(unbroken: Path, broken: Path, kills: list[Kill], lives: int) -> Outcome:
    """Everything that the two must have in common, from their journals' frames and their checkpoints."""
    wanted, got = trained_steps(unbroken), trained_steps(broken)
    faults = [
        f"{one[0]} step {one[1]}: trained on {len(two[2])} groups, unbroken on {len(one[2])}, or in another order"
        for one, two in zip(wanted, got, strict=False)
        if one != two
    ]
    if len(wanted) != len(got):
        faults.append(f"{len(got)} optimizer steps, unbroken {len(wanted)}")
    groups = Counter((learner, key) for learner, _, keys in got for key in keys)
    faults += [f"{key} is in {number} steps of {learner}" for (learner, key), number in groups.items() if number > 1]
    learners = {step[0] for step in wanted}
    due, there = admitted(unbroken, learners), admitted(broken, learners)
    faults += [f"{key} is admitted in one run only" for key in sorted(due ^ there)]
    asked, reasked, in_flight, ill = asked_again(broken)
    return Outcome(
        kills=tuple(f"{kill.stage} at {kill.share:.0%}" for kill in kills),
        lives=lives,
        steps=len(got),
        groups=groups.total(),
        admitted=len(there),
        asked=asked,
        reasked=reasked,
        in_flight=in_flight,
        same_weights={name: digest(unbroken, name) == digest(broken, name) for name in CHECKPOINTS},
        faults=(*faults, *ill),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="starter")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=None)
    chosen = parser.parse_args()
    work: Path = chosen.work or Path(tempfile.mkdtemp(prefix="recipe-kills-"))
    work.mkdir(parents=True, exist_ok=True)
    unbroken, broken = work / "unbroken", work / f"broken-{chosen.seed}"
    finish(chosen.recipe, unbroken, chosen.settings)
    seconds, done = finished(unbroken), list[Kill]()
    for aim in plan_kills(seconds, chosen.kills, random.Random(chosen.seed)):
        if kill_at(chosen.recipe, broken, chosen.settings, aim, seconds):
            done.append(aim)
            print(f"killed in {aim.stage} at {aim.share:.0%}", file=sys.stderr, flush=True)
    finish(chosen.recipe, broken, chosen.settings)
    outcome = judge(unbroken, broken, done, len(done) + 1)
    for name, value in asdict(outcome).items():
        if name not in ("faults", "kills"):
            print(f"{name.replace('_', ' '):<24}{value!s:>10}")
    for fault in outcome.faults:
        print(fault)
    meets = not outcome.faults and len(done) == chosen.kills
    print(json.dumps({"benchmark": "recipe_kills", "value": len(outcome.faults), "unit": "differences", "goal": 0,
                      "meets": meets, "details": {**asdict(outcome), "seed": chosen.seed}}))  # fmt: skip
    sys.exit(0 if meets else 1)


if __name__ == "__main__":
    main()
