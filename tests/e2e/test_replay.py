"""`residency replay` on a recorded run: bit for bit, from a state checkpoint and from the SFT checkpoint."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RECORDER = Path(__file__).parent / "recorded_run.py"
SECONDS = 280
pytestmark = pytest.mark.timeout(SECONDS + 20)


def environment() -> dict[str, str]:
    return dict(os.environ, RAY_AUTH_MODE="disabled")


def replay(run: Path, step: int, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "residency.platform.cli.app", "replay", str(run), "--step", str(step), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment())


def files_of(run: Path) -> dict[str, bytes]:
    """Everything in the run but its log files."""
    paths = [path for path in run.rglob("*") if path.is_file() and "logs" not in path.relative_to(run).parts]
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("replay") / "run"
    done = subprocess.run(
        [sys.executable, str(RECORDER), str(run)],
        capture_output=True, text=True, timeout=SECONDS, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return run


def rewrite_loss(run: Path, step: int, change: Any) -> None:
    """Another loss in the run's metrics of that optimizer step."""
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    changed = [row for row in rows if row["step"] == step - 1 and row["name"] == "loss"]
    assert changed
    for row in changed:
        row["value"] = change(row["value"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_step_is_replayed_bitwise_from_the_state_checkpoint(recorded: Path) -> None:
    before = files_of(recorded)
    done = replay(recorded, 5, "--json")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert (found["from"], found["steps_trained"]) == ("rl-steps/step-000002", 3), "4 and 5, and 3, which only counts"
    assert found["bitwise_equal"]
    assert found["loss"]["run"] == found["loss"]["replay"] != 0
    assert found["gradient_norm"]["run_hex"] == found["gradient_norm"]["replay_hex"]
    assert found["gradient_norm"]["replay"] > 0
    assert found["other_versions"] == {}
    assert files_of(recorded) == before, "a run is only read"


def test_without_a_state_checkpoint_it_begins_at_sft_and_one_bit_is_seen(recorded: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(recorded, run)
    shutil.rmtree(run / "checkpoints" / "rl-steps")
    rewrite_loss(run, 4, lambda value: math.nextafter(value, math.inf))
    done = replay(run, 4)
    assert done.returncode == 1, done.stderr[-3000:]
    said = " ".join(done.stderr.split())
    assert "trained from sft in 4 steps on 2 ranks" in said
    assert "differs by" in said
    assert said.count("bitwise equal") == 1, "the gradient norm is"


@pytest.mark.parametrize(
    ("step", "sentence"),
    [(9, "was never trained; the journal holds steps 1 to 5"), (3, "step 3 of rl was skipped")],
)
def test_a_step_that_was_not_trained_is_refused(recorded: Path, step: int, sentence: str) -> None:
    done = replay(recorded, step)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())


def test_a_run_without_rl_and_one_of_another_version_are_refused(recorded: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(recorded, run)
    done = replay(run, 1, "--role", "rl_permuted")
    assert done.returncode == 2
    assert "no optimizer step of rl_permuted" in " ".join(done.stderr.split())
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("group_size:", "rollouts_a_prompt:"))
    done = replay(run, 1)
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert "is not of this version's form" in said
    assert "rollouts_a_prompt: unknown key" in said
    (run / "recipe.yaml").unlink()
    done = replay(run, 1)
    assert done.returncode == 2
    assert "is no run with a journal" in " ".join(done.stderr.split())
