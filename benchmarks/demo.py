"""The demo as a user runs it: minutes from start to exit, largest memory, and what RL came to (goals of the demo).

Usage: ``python benchmarks/demo.py [--run DIR]`` runs ``residency demo`` in a new folder, samples the proportional set
size (PSS) of all its processes (object store included) and prints the result as one JSON line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from reporting import report

LIMIT_MINUTES, LIMIT_GIB = 12.0, 8.0
SAMPLE_SECONDS = 3.0


def tree_pss(root: psutil.Process) -> int:
    """Bytes: sum of PSS over a process and all below it; processes that end meanwhile count nothing."""
    total = 0
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def measure(command: list[str]) -> tuple[int, float, int]:
    """Exit code, seconds and largest PSS (bytes) of a command."""
    began, largest = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr)
    while process.poll() is None:
        largest = max(largest, tree_pss(psutil.Process(process.pid)))
        time.sleep(SAMPLE_SECONDS)
    return process.returncode, time.monotonic() - began, largest


def comparison(rows: list[dict[str, Any]], a: str, b: str, decoding: str) -> dict[str, Any]:
    """The pooled (or only) comparison of two checkpoints in this decoding."""
    wanted = (a, b, decoding, "think")
    found = [row for row in rows if (row["a"], row["b"], row["decoding"], row["prompt_mode"]) == wanted]
    pooled = [row for row in found if row["seed"] is None]
    return (pooled or found)[0]


def learning_goals(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Lower 95 % bounds of the demo's three comparisons, with the bound that each must exceed."""
    wanted = {
        "rl_minus_sft_sampled": (comparison(rows, "rl", "sft", "sampled"), 0.0),
        "rl_minus_sft_greedy": (comparison(rows, "rl", "sft", "greedy"), -0.03),
        "sft_minus_blank_greedy": (comparison(rows, "sft", "sft@blank", "greedy"), 0.0),
    }
    return {
        name: {
            "difference": row["difference"],
            "ci95": row["ci95"],
            "must_exceed": bound,
            "meets": row["ci95"][0] > bound,
        }
        for name, (row, bound) in wanted.items()
    }


def main() -> None:
    """Measure one demo and report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--run", type=Path, default=None)
    run: Path = arguments.parse_args().run or Path(tempfile.mkdtemp(prefix="residency-demo-")) / "demo"
    command = [str(Path(sys.executable).with_name("residency")), "demo", "--run", str(run)]
    code, seconds, largest = measure(command)
    minutes, gib = seconds / 60, largest / 1024**3
    details: dict[str, Any] = {"exit_code": code, "minutes": round(minutes, 2), "peak_pss_gib": round(gib, 2)}
    meets = code == 0 and minutes <= LIMIT_MINUTES and gib <= LIMIT_GIB
    if code == 0:
        summary = json.loads((run / "summary.json").read_text())
        goals = learning_goals(summary["comparisons"])
        details |= {"learning": goals, "seconds": summary["seconds"], "goal_gib": LIMIT_GIB}
        meets = meets and all(goal["meets"] for goal in goals.values())
    report("demo", round(minutes, 2), "minutes", LIMIT_MINUTES, meets, details)


if __name__ == "__main__":
    main()
