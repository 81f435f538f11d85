"""A short RL job broken by three random faults a seed: is anything lost, doubled, or other than without them?

    python tests/chaos/rl_chaos.py --seeds 1-100 [--results FILE] [--work FOLDER] [--share]    # make chaos SEEDS=a-b

Appends one JSON row a seed to the results and passes over seeds that have one. Of each kind of job one unbroken run is
made first, to compare with; it is kept below --work as long as the code stays the same. ``--share``: all seeds on one
pair of nodes, one after the other. Prints a line a seed, and one JSON line at the end.
"""

import argparse
import hashlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos_faults import NothingToStrike, strike
from chaos_job import GROUP_SIZE, STEPS, Kind, due_groups, make_student, prepare
from chaos_journal import Verdict, check
from chaos_plan import Plan, plan_of
from chaos_scene import Nodes, Scene, small_disk, started_nodes, wait_until

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("platform", "actors", "training", "synthesis", "tests/chaos")
RUN_SECONDS = {"light": 1000.0, "deepspeed": 1500.0, "vllm": 1800.0}  # a seed that is not done by then hangs


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The unbroken run of a kind."""

    state: str
    journal_bytes: int
    seconds: float


def source_digest() -> str:
    """Of all code that a run could depend on."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def scene_of(kind: Kind, work: Path, nodes: Nodes, wants_disk: bool) -> Iterator[Scene]:
    """A run that is ready for its RL, in a folder of its own that goes afterwards."""
    student = work / "student"
    if kind != "light" and not student.exists():
        make_student(student)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos", ignore_cleanup_errors=True)))
        log = folder / "driver.log"
        if wants_disk:
            stack.enter_context(small_disk(folder / "disk", kind))
            folder = folder / "disk"
        scene = Scene(folder, log, nodes, kind)
        stack.callback(scene.close)
        prepare(scene.run, kind, student)
        yield scene


def finish(scene: Scene, deadline: float) -> None:
    """Until a driver ends well; one that ends by itself before that is noted and started again, as a user would."""
    while True:
        if not wait_until(lambda: scene.ended() is not None, max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"the run was not done in time; driver {scene.lives} hangs")
        if scene.ended() == 0:
            return
        scene.note_end()
        scene.start_driver()


def unbroken(kind: Kind, work: Path, nodes: Nodes) -> Reference:
    """The kind's reference, made where it is not there or of other code."""
    kept, stamp = work / f"reference-{kind}.json", source_digest()
    if kept.is_file() and (there := json.loads(kept.read_text())).pop("code") == stamp:
        return Reference(**there)
    with scene_of(kind, work, nodes, wants_disk=False) as scene:
        began = time.monotonic()
        scene.start_driver()
        finish(scene, began + RUN_SECONDS[kind])
        verdict = judge(scene)
        if verdict.faults or scene.ends:
            shutil.copytree(scene.folder, work / f"failed-reference-{kind}", dirs_exist_ok=True)
            raise RuntimeError(f"the unbroken {kind} run is not whole: {verdict.faults} {scene.ends}")
        reference = Reference(
            state=verdict.state, journal_bytes=scene.journal_bytes(), seconds=round(time.monotonic() - began, 1)
        )
    kept.write_text(json.dumps(asdict(reference) | {"code": stamp}))
    return reference


def judge(scene: Scene) -> Verdict:
    return check(scene.run, due_groups(), STEPS, GROUP_SIZE)


def break_once(plan: Plan, scene: Scene, reference: Reference) -> list[dict[str, Any]]:
    """The run with its faults, to its end; what each of them struck."""
    deadline, struck = time.monotonic() + RUN_SECONDS[plan.kind], list[dict[str, Any]]()
    scene.start_driver()
    if any(fault.name == "second driver" for fault in plan.faults):
        scene.load_second_driver()
    for fault in plan.faults:
        wanted = fault.moment * reference.journal_bytes
        while scene.ended() is None and scene.journal_bytes() < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the run stands still before {fault.name}")
            time.sleep(0.02)
        if scene.ended() not in (None, 0):
            scene.note_end()
            scene.start_driver()
        time.sleep(fault.pause)
        row = {"fault": fault.name, "moment": round(fault.moment, 3)}
        try:
            if scene.ended() == 0:
                raise NothingToStrike("the run was over")
            row["struck"] = strike(scene, fault)
        except NothingToStrike as error:
            row["missed"] = str(error)
        struck.append(row)
    finish(scene, deadline)
    return struck


def events_of(run: Path) -> list[dict[str, Any]]:
    """All but those whose lines a killed driver or a full disk has torn."""
    found = list[dict[str, Any]]()
    for line in (run / "events.jsonl").read_text(errors="replace").splitlines():
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def equal_ranks(run: Path) -> bool:
    """Whether every learner group of the run had the same number of ranks."""
    return len({event["ranks"] for event in events_of(run) if event["kind"] == "role_started"}) <= 1


def run_seed(seed: int, work: Path, nodes: Nodes, references: dict[Kind, Reference]) -> dict[str, Any]:
    """One row of the results."""
    plan = plan_of(seed)
    if plan.kind not in references:
        references[plan.kind] = unbroken(plan.kind, work, nodes)
    reference = references[plan.kind]
    with scene_of(plan.kind, work, nodes, any(fault.name == "disk full" for fault in plan.faults)) as scene:
        row: dict[str, Any] = {"seed": seed, "kind": plan.kind}
        began = time.monotonic()
        try:
            row["struck"] = break_once(plan, scene, reference)
            verdict = judge(scene)
            kinds = [event["kind"] for event in events_of(scene.run)]
            row |= asdict(verdict) | {
                "drivers": scene.lives,
                "workers_lost": kinds.count("worker_lost"),
                "learner_restarts": kinds.count("learner_restarted"),
                "ended_by_itself": scene.ends,
            }
            comparable = plan.kind == "light" or (plan.kind == "deepspeed" and equal_ranks(scene.run))
            row["same_state"] = verdict.state == reference.state if comparable else None
        except (TimeoutError, RuntimeError, OSError) as error:
            row |= {"faults": [f"{type(error).__name__}: {error}"], "ended_by_itself": scene.ends}
        row["seconds"] = round(time.monotonic() - began, 1)
        row["good"] = not row["faults"] and not row["ended_by_itself"] and row.get("same_state") is not False
        if not row["good"]:
            scene.close()
            kept = work / f"failed-{seed}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(scene.folder, kept, ignore=shutil.ignore_patterns("filler", "disk"), symlinks=True)
            shutil.copyfile(scene.log, kept / "driver.log")
    return row


def told(row: dict[str, Any]) -> str:
    faults = ", ".join(each["fault"] + (" (missed)" if "missed" in each else "") for each in row.get("struck", []))
    what = (
        "good" if row["good"] else f"BAD {row['faults']} {row['ended_by_itself']} same state: {row.get('same_state')}"
    )
    return f"seed {row['seed']:>3} {row['kind']:<9} {row['seconds']:>6.1f} s  {faults}: {what}"


def read_rows(results: Path) -> dict[int, dict[str, Any]]:
    if not results.is_file():
        return {}
    return {row["seed"]: row for row in map(json.loads, results.read_text().splitlines())}


def run_seeds(seeds: list[int], results: Path, work: Path, share: bool) -> list[dict[str, Any]]:
    work.mkdir(parents=True, exist_ok=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    done, references = read_rows(results), dict[Kind, Reference]()
    with ExitStack() as shared:
        nodes = shared.enter_context(started_nodes()) if share else None
        for seed in [seed for seed in seeds if seed not in done]:
            with ExitStack() as own:
                done[seed] = run_seed(seed, work, nodes or own.enter_context(started_nodes()), references)
            with results.open("a") as file:
                file.write(json.dumps(done[seed]) + "\n")
            print(told(done[seed]), file=sys.stderr, flush=True)
    return [done[seed] for seed in seeds]


def parse_seeds(text: str) -> list[int]:
    """``3``, ``1-8`` or ``1-8,20``."""
    seeds = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("1-100"))
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "chaos")
    parser.add_argument("--results", type=Path, default=None)
    parser.add_argument("--share", action="store_true")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nodes and driver are ended
    results: Path = chosen.results or chosen.work / "rl.jsonl"
    rows = run_seeds(chosen.seeds, results, chosen.work, chosen.share)
    bad = [row["seed"] for row in rows if not row["good"]]
    details = {
        "seeds": len(rows),
        "bad": bad,
        "lost": sum(row.get("lost", 0) for row in rows),
        "doubled": sum(row.get("doubled", 0) for row in rows),
        "faults_struck": sum("struck" in each for row in rows for each in row.get("struck", [])),
        "faults_missed": sum("missed" in each for row in rows for each in row.get("struck", [])),
        "same_state": sum(row.get("same_state") is True for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }
    print(json.dumps({"benchmark": "rl_chaos", "value": len(bad), "unit": "seeds with a fault", "goal": 0,
                      "meets": not bad, "details": details}))  # fmt: skip
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
