"""The short form of ``rl_chaos.py``, whose long one is ``make chaos``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("rl_chaos.py")
SEEDS = "1-8"


@pytest.mark.timeout(1500)
def test_eight_seeds_of_three_faults_lose_double_and_change_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(SUITE), "--seeds", SEEDS, "--work", str(tmp_path), "--share"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1480, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    report = json.loads(done.stdout.splitlines()[-1])
    details = report["details"]
    assert report["meets"]
    assert (details["seeds"], details["lost"], details["doubled"], details["same_state"]) == (8, 0, 0, 8)
    assert details["faults_struck"] >= 20, done.stderr  # where no disk may be mounted, that fault is missed
