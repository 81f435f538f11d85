"""The journal's three costs: groups written a second, a long journal read back, and its share of an RL step.

Usage: ``python benchmarks/journal.py [--run runs/demo]``. Groups are written as a controller does it: many in flight,
each awaits ``durable`` after its request, its answer and its verdict, and every 24 share a step. A bare loop that
writes and syncs the same bytes in the same commits shows what the disk allows. The share is that of a synchronous step
whose every answer and verdict is a commit of its own (more than any stage asks for), against the mean step of a run.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from reporting import report

from residency.platform.journal.journal import Journal
from residency.platform.journal.reader import JournalReader, read_state
from residency.platform.journal.records import Admitted, Answered, Judged, Requested, Trained

GOAL_GROUPS_PER_SECOND, GOAL_READ_SECONDS, GOAL_SHARE = 2000, 15.0, 0.05
STEP_GROUPS, ROLLOUTS = 24, 8
IN_FLIGHT = 256
CACHE = Path(__file__).resolve().parent.parent / ".cache"  # on the disk of the checkout: /tmp may be memory
STEP_PARTS = ("generate_seconds", "train_seconds", "weights_seconds")


def group_records(step: int, number: int) -> tuple[Admitted, Requested, Answered, Judged]:
    """What the journal says of one group before it is trained on; keys are as long as the real ones."""
    key, part = f"rl-{step}/{number:064x}", f"part-rl-{step:05d}.arrow"
    return (
        Admitted(key, part),
        Requested(key, "generator-0", 1),
        Answered(key, "generator-0", (f"traces/{part}",), step, step),
        Judged(key, tuple(rank / ROLLOUTS for rank in range(ROLLOUTS)), (f"verdicts/{part}",)),
    )


async def write_concurrently(journal: Journal, groups: int) -> float:
    """Seconds until all groups of all steps are durable, with ``IN_FLIGHT`` of them at once."""
    slots = asyncio.Semaphore(IN_FLIGHT)
    judged: dict[int, list[str]] = defaultdict(list)
    last_step = 0

    async def live(number: int) -> None:
        nonlocal last_step
        step = number // STEP_GROUPS + 1
        async with slots:
            admitted, requested, answered, verdict = group_records(step, number)
            await journal.durable(admitted, requested)
            await journal.durable(answered)
            await journal.durable(verdict)
        judged[step].append(answered.key)
        while len(judged[last_step + 1]) == STEP_GROUPS:  # steps are taken in their order
            last_step += 1
            await journal.durable(Trained(tuple(judged.pop(last_step)), 0, last_step))

    began = time.perf_counter()
    await asyncio.gather(*(live(number) for number in range(groups)))
    return time.perf_counter() - began


def write_bare(folder: Path, commits: list[int]) -> float:
    """Seconds of a loop that writes and syncs blocks of these sizes, and does nothing else."""
    blocks = [os.urandom(num_bytes) for num_bytes in commits]
    file = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    began = time.perf_counter()
    for block in blocks:
        os.write(file, block)
        os.fsync(file)
    seconds = time.perf_counter() - began
    os.close(file)
    return seconds


def measure_writing(folder: Path, groups: int) -> dict[str, Any]:
    """Groups a second through the journal and, with the same bytes in the same commits, through a bare loop."""
    began_cpu = time.process_time()
    with Journal.open(folder / "journal") as journal:
        seconds = asyncio.run(write_concurrently(journal, groups))
    cpu_seconds = time.process_time() - began_cpu
    ends = [frame.end for frame in JournalReader(folder / "journal").frames()]
    commits = [end - before if end > before else end for before, end in zip([0, *ends], ends, strict=False)]
    bare_seconds = write_bare(folder, commits)
    return {
        "groups_per_second": round(groups / seconds),
        "bare_groups_per_second": round(groups / bare_seconds),
        "cpu_seconds": round(cpu_seconds, 2),
        "groups": groups,
        "commits": len(commits),
        "bytes_per_group": round(sum(commits) / groups),
        "in_flight": IN_FLIGHT,
    }


def write_long(folder: Path, groups: int) -> None:
    """A journal of so many groups, all of them trained on, in big commits."""
    with Journal.open(folder) as journal:
        for first in range(0, groups, STEP_GROUPS):
            step, numbers = first // STEP_GROUPS + 1, range(first, min(first + STEP_GROUPS, groups))
            records = [group_records(step, number) for number in numbers]
            for each in zip(*records, strict=True):
                journal.append(*each)
            journal.append(Trained(tuple(admitted.key for admitted, *_ in records), 0, step))
            if step % 50 == 0:
                journal.commit()


def measure_reading(folder: Path, groups: int) -> dict[str, Any]:
    """Seconds to rebuild the state of so many groups."""
    write_long(folder, groups)
    began, began_cpu = time.perf_counter(), time.process_time()
    state = read_state(folder)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    if len(state.keys) != groups:
        raise SystemExit(f"{len(state.keys)} of {groups} groups were read back")
    num_bytes = sum(path.stat().st_size for path in folder.glob("*.log"))
    return {"groups": groups, "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "bytes": num_bytes}


async def journal_step(journal: Journal, step: int) -> float:
    """Seconds that one synchronous step waits for the journal, when nothing shares a commit."""
    groups = [group_records(step, number) for number in range(STEP_GROUPS)]
    began = time.perf_counter()
    await journal.durable(*(record for admitted, requested, *_ in groups for record in (admitted, requested)))
    for _, _, answered, verdict in groups:
        await journal.durable(answered)
        await journal.durable(verdict)
    await journal.durable(Trained(tuple(admitted.key for admitted, *_ in groups), 0, step))
    return time.perf_counter() - began


def measure_step(folder: Path, steps: int) -> float:
    async def take_steps(journal: Journal) -> list[float]:
        return [await journal_step(journal, step + 1) for step in range(steps)]

    with Journal.open(folder) as journal:
        return fmean(asyncio.run(take_steps(journal)))


def mean_step_seconds(run: Path) -> float | None:
    """Mean of generating, training and updating weights over the RL steps of a run; None where it has none."""
    metrics = run / "metrics.jsonl"
    if not metrics.is_file():
        return None
    steps: dict[int, dict[str, float]] = defaultdict(dict)
    for line in metrics.read_text().splitlines():
        record = json.loads(line)
        if record["role"] == "rl" and record["name"] in STEP_PARTS:
            steps[record["step"]][record["name"]] = record["value"]
    whole = [sum(parts.values()) for parts in steps.values() if len(parts) == len(STEP_PARTS)]
    return fmean(whole) if whole else None


def main() -> None:
    """Measure all three and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a finished run, for the length of a step")
    parser.add_argument("--written", type=int, default=24_000, help="groups to write")
    parser.add_argument("--read", type=int, default=1_000_000, help="groups to read back")
    arguments = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="journal-", dir=CACHE) as name:
        folder = Path(name)
        step_seconds = measure_step(folder / "steps", steps=20)
        print(f"journal of a step: {step_seconds:.4f} s", file=sys.stderr)
        writing = measure_writing(folder, arguments.written)
        print(f"writing: {writing}", file=sys.stderr)
        reading = measure_reading(folder / "long", arguments.read)
        print(f"reading: {reading}", file=sys.stderr)
    run_seconds = mean_step_seconds(arguments.run)
    share = step_seconds / run_seconds if run_seconds else None
    step: dict[str, Any] = {
        "groups": STEP_GROUPS,
        "journal_seconds": round(step_seconds, 4),
        "run_step_seconds": round(run_seconds, 3) if run_seconds else None,
        "share": round(share, 4) if share is not None else None,
        "goal_share": GOAL_SHARE,
    }
    if share is None:
        step["missing"] = f"{arguments.run} has no finished RL step: run the demo first, or name a run with --run"
    value = writing["groups_per_second"]
    meets = value >= GOAL_GROUPS_PER_SECOND and reading["seconds"] <= GOAL_READ_SECONDS
    meets = meets and share is not None and share <= GOAL_SHARE
    details = {"writing": writing, "reading": {**reading, "goal_seconds": GOAL_READ_SECONDS}, "step": step}
    report("journal", value, "groups/s, written and synced", GOAL_GROUPS_PER_SECOND, meets, details)


if __name__ == "__main__":
    main()
