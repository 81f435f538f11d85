"""What staleness costs on the BCCD recipe: asynchronous RL against synchronous, from the same SFT checkpoints.

Usage: ``python benchmarks/asynchrony.py [FOLDER] [--run DIR] [--arms NAME ...]``; the same command goes on where it
stopped. All arms take about an hour on two cores; the synchronous one has the seeds that the chosen arms need. FOLDER
is the BCCD dataset, ``../shared/data/bccd`` beside the checkout where it is not given.

The synchronous arm is the recipe without its controls, three seeds. The other arms take its stages up to the choice of
prompts as they are, and differ in one line of the recipe: η = 2 for all seeds; η = 4 for the first, once as it is and
once without the correction for what was really sampled. Compared are the RL checkpoints, question by question, four
samples each at temperature 1.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from reporting import report

BOUND = 0.03  # accuracy: the whole interval of η = 2 minus synchronous lies within ±
SYNCHRONOUS = "synchronous"
ARMS: dict[str, tuple[tuple[int, ...], dict[str, str]]] = {  # name → seeds, changes of the recipe
    "staleness-2": ((0, 1, 2), {"rl.staleness": "2"}),
    "staleness-4": ((0,), {"rl.staleness": "4"}),
    "staleness-4-uncorrected": ((0,), {"rl.staleness": "4", "rl.truncation": "null"}),
}
COMMON = {
    "rl.controls": "[]", "evaluation.images": "[]", "evaluation.temperatures": "[]",
    "evaluation.checkpoints": "[sft, rl]",
}  # fmt: skip
SHARED = (
    "data",
    "examples.parquet",
    "lineage",
    "summary.json",
    *(f"checkpoints/{n}" for n in ("base", "warm_up", "sft")),
)
DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "bccd"
RESIDENCY = str(Path(sys.executable).with_name("residency"))


def carry_out(run: Path, source: Path, seeds: tuple[int, ...], changes: dict[str, str]) -> None:
    """The recipe with these changes; what is finished is not repeated."""
    settings = {"data.source": str(source), "seeds": str(list(seeds)), **COMMON, **changes}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    subprocess.run([RESIDENCY, "run", "bccd", "--run", str(run), *sets], stdout=sys.stderr, check=True)


def take_over(source: Path, target: Path) -> None:
    """What one seed's run came to before RL, as the beginning of another; nothing where that was begun before."""
    if (target / "journal").exists():
        return
    for name in SHARED:
        here = source / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(here, target / name) if here.is_dir() else shutil.copy(here, target / name)
    lines = (source / "journal" / "stages.jsonl").read_text().splitlines()
    before = [line for line in lines if json.loads(line)["stage"] not in ("rl", "evaluate")]
    (target / "journal").mkdir()
    (target / "journal" / "stages.jsonl").write_text("".join(f"{line}\n" for line in before))


def compared(a: Path, b: Path) -> dict[str, Any]:
    """a − b of the RL checkpoints, sampled and greedy, as `residency compare` has it."""
    done = subprocess.run([RESIDENCY, "compare", str(a), str(b), "--json"], stdout=subprocess.PIPE, check=True)
    keys = ("difference", "ci95", "n", "questions", "clusters", "method")
    return {
        row["decoding"]: {key: row[key] for key in keys}
        for row in json.loads(done.stdout)["comparisons"]
        if (row["checkpoint"], row["prompt_mode"], row["image"]) == ("rl", "think", "true")
        and row["profile"].startswith("strict")
    }


def learning(run: Path) -> dict[str, Any]:
    """What the run's RL came to: seconds, staleness, rewards."""
    summary = json.loads((run / "summary.json").read_text())
    return {key: summary["rl"][key] for key in ("seconds", "steps", "first_reward", "last_reward", "staleness")}


def folder_of(run: Path, seed: int, seeds: tuple[int, ...]) -> Path:
    """A run of several seeds has a folder for each."""
    return run / f"seed-{seed}" if len(seeds) > 1 else run


def main() -> None:
    """Carry out all arms (or what is left of them) and report their comparisons."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("source", type=Path, nargs="?", default=DEFAULT)
    arguments.add_argument("--run", type=Path, default=Path("runs/asynchrony"))
    arguments.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    given = arguments.parse_args()
    if not given.source.is_dir():
        sys.exit(f"{given.source} is absent: give the folder of the BCCD dataset (Annotations, JPEGImages, ImageSets)")
    arms = {arm: ARMS[arm] for arm in given.arms}
    every = tuple(sorted({seed for seeds, _ in arms.values() for seed in seeds}))
    synchronous = given.run / SYNCHRONOUS
    carry_out(synchronous, given.source, every, {})
    details: dict[str, Any] = {
        SYNCHRONOUS: {f"seed-{seed}": learning(folder_of(synchronous, seed, every)) for seed in every}
    }
    for arm, (seeds, changes) in arms.items():
        run = given.run / arm
        for seed in seeds:
            take_over(folder_of(synchronous, seed, every), folder_of(run, seed, seeds))
        carry_out(run, given.source, seeds, changes)
        against = synchronous if seeds == every else folder_of(synchronous, seeds[0], every)
        details[arm] = {
            **{f"seed-{seed}": learning(folder_of(run, seed, seeds)) for seed in seeds},
            "minus_synchronous": compared(run, against),
            "minus_synchronous_by_seed": {
                f"seed-{seed}": compared(folder_of(run, seed, seeds), folder_of(synchronous, seed, every))
                for seed in seeds
                if len(seeds) > 1
            },
        }
    judged = "staleness-2" if "staleness-2" in arms else given.arms[0]  # the goal is for η = 2
    low, high = details[judged]["minus_synchronous"]["sampled"]["ci95"]
    worst = max(abs(low), abs(high))
    what = f"accuracy, outer 95 % bound of |{judged} minus synchronous|"
    report("asynchrony", round(worst, 4), what, BOUND, worst <= BOUND, details)


if __name__ == "__main__":
    main()
