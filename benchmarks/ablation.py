"""What each part of the mixture is worth: `residency ablate` on the shipped recipe, one table.

Usage: ``python benchmarks/ablation.py [--tiny] [--run DIR]``. Five mixtures of one size from one base and one
synthesis, examined on the same held-out questions. ``--tiny`` shows the mechanics in some minutes; its accuracies say
nothing. ``meets`` is true when all six rows stand in the table and every arm but the first lacks its part.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from reporting import report

from residency.synthesis.ablation import ALL, LEFT_OUT

TINY = {
    "data.train_items": 320, "data.tune_items": 24, "data.held_out_items": 40, "synthesis.warm_up_steps": 40,
    "synthesis.items": 60, "mixture.examples": 240, "sft.max_steps": 16, "sft.evaluate_every": 8,
    "student.pretraining_steps": 10, "student.max_new_tokens": 64, "evaluation.bootstrap_resamples": 200,
}  # fmt: skip
SECONDS = 4 * 3600


def ablate(run: Path, tiny: bool) -> dict[str, Any]:
    settings = [part for key, value in (TINY if tiny else {}).items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "residency.platform.cli.app", "ablate", "ablation", "--run", str(run), "--json"]
    done = subprocess.run([*command, *settings], stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True)
    return json.loads(done.stdout)


def is_whole(rows: list[dict[str, Any]]) -> bool:
    """Every arm is there, and lacks what it is to lack."""
    arms = {row["arm"] for row in rows}
    lacking = all(
        LEFT_OUT[row["arm"]][1] not in kinds
        for row in rows
        if row["arm"] in LEFT_OUT
        for kinds in row["targets" if LEFT_OUT[row["arm"]][0] == "targets" else "families"]
    )
    return arms == {"base", ALL, *LEFT_OUT} and lacking


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--run", type=Path, default=None, help="an unfinished one goes on")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ablation-") as folder:
        document = ablate(given.run or Path(folder) / "run", given.tiny)
    rows = document["rows"]
    gaps = [row["difference"] for row in rows if row["difference"] is not None]
    worst = min(gaps) if gaps else 0.0
    report("ablation", 100 * worst, "points, the largest loss by a part left out", 0.0, is_whole(rows), {"rows": rows})


if __name__ == "__main__":
    main()
