"""What the BCCD recipe comes to: RL against SFT and two controls of equal seconds, three seeds, pooled.

Usage: ``python benchmarks/bccd.py FOLDER [--run DIR]``; the same command goes on where it stopped. Takes about an hour
on two cores. Without FOLDER it takes ``../shared/data/bccd`` beside the checkout, and says so where that is absent.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from demo import comparison
from reporting import report

GOALS = {  # name → (a, b, decoding, bound that the lower 95 % limit must exceed)
    "rl_minus_sft_sampled": ("rl", "sft", "sampled", 0.0),
    "rl_minus_sft_continued_sampled": ("rl", "sft_continued", "sampled", 0.0),
    "rl_minus_rl_permuted_sampled": ("rl", "rl_permuted", "sampled", 0.0),
    "rl_minus_sft_greedy": ("rl", "sft", "greedy", -0.03),
    "sft_minus_blank_greedy": ("sft", "sft@blank", "greedy", 0.0),
}
LIMIT_SECONDS = 25 * 60
DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "bccd"


def main() -> None:
    """Run the recipe (or what is left of it) and report its comparisons."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("source", type=Path, nargs="?", default=DEFAULT)
    arguments.add_argument("--run", type=Path, default=Path("runs/bccd"))
    given = arguments.parse_args()
    if not given.source.is_dir():
        sys.exit(f"{given.source} is absent: give the folder of the BCCD dataset (Annotations, JPEGImages, ImageSets)")
    command = [str(Path(sys.executable).with_name("residency")), "run", "bccd", "--run", str(given.run)]
    subprocess.run([*command, "--set", f"data.source={given.source}"], stdout=sys.stderr, check=True)
    summary = json.loads((given.run / "summary.json").read_text())
    found: dict[str, Any] = {}
    for name, (a, b, decoding, bound) in GOALS.items():
        row = comparison(summary["comparisons"], a, b, decoding)
        keys = ("difference", "ci95", "n", "questions", "clusters")
        found[name] = {key: row[key] for key in keys} | {"must_exceed": bound, "meets": row["ci95"][0] > bound}
    by_seed: dict[str, float] = {}
    for key, seconds in summary["seconds"].items():
        by_seed[key.split("/")[0]] = by_seed.get(key.split("/")[0], 0.0) + seconds
    in_time = max(by_seed.values()) <= LIMIT_SECONDS
    hardest = found["rl_minus_sft_sampled"]["ci95"][0]
    meets = in_time and all(row["meets"] for row in found.values())
    details = {"comparisons": found, "seconds_by_seed": by_seed, "limit_seconds": LIMIT_SECONDS}
    report("bccd", round(hardest, 4), "accuracy, lower 95 % bound of RL - SFT at T = 1", 0.0, meets, details)


if __name__ == "__main__":
    main()
