"""Runs as jobs on a cluster that was started apart, with token authentication: one from end to end, one stopped on its
way and submitted again. A tiny student sits its boards: real vLLM, real verifier; no learner, which costs a minute."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOKEN = "b" * 64
SMALL = {
    "data.train_items": 160, "data.tune_items": 24, "data.held_out_items": 24, "rl.steps": 0,
    "evaluation.checkpoints": "[base]", "evaluation.samples": 0, "evaluation.images": "[]",
    "evaluation.bootstrap_resamples": 200, "student.max_new_tokens": 16, "student.pretraining_steps": 0,
}  # fmt: skip
RUN_SECONDS = 800


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def head(start_head: Callable[..., Any], runs: Path) -> Any:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RESIDENCY_RUNS": str(runs), "PATH": path}
    return start_head(environment, "--num-cpus=2", "--object-store-memory=300000000")


def submit(head: Any, run: str, *options: str, environment: dict[str, str] | None = None) -> Any:
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "residency.platform.cli.app", "submit", "starter", "--address", head.dashboard]
    return subprocess.run(
        [*command, "--run", run, "--profile", "laptop", *settings, *options],
        capture_output=True, text=True, timeout=RUN_SECONDS, check=False, env=environment or head.environment,
    )  # fmt: skip


def stages(run: Path) -> list[str]:
    path = run / "journal" / "stages.jsonl"
    return [json.loads(line)["stage"] for line in path.read_text().splitlines()] if path.is_file() else []


@pytest.mark.timeout(900)
def test_a_job_is_followed_to_its_end_on_the_cluster_it_was_given_to(head: Any, runs: Path) -> None:
    done = submit(head, "first")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "job first-1 is at work on the run first" in done.stderr
    assert "base" in done.stdout, "the job's log"
    assert stages(runs / "first") == ["data", "student", "evaluate"]
    resolved = (runs / "first" / "recipe.yaml").read_text()
    assert "cluster_cpus: null" in resolved
    assert not [*(runs / "first" / "logs").glob("session_*")], "no private cluster within the job"


@pytest.mark.timeout(1500)
def test_a_stopped_job_submitted_again_goes_on_where_it_stopped(head: Any, runs: Path) -> None:
    assert submit(head, "second", "--no-wait").returncode == 0
    deadline = time.monotonic() + RUN_SECONDS
    while "student" not in stages(runs / "second"):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    refused = submit(head, "second")
    assert refused.returncode == 2
    assert "ray job stop second-1" in " ".join(refused.stderr.split())
    stop = ["ray", "job", "stop", "second-1", "--address", head.dashboard]
    assert subprocess.run(stop, capture_output=True, timeout=120, check=False, env=head.environment).returncode == 0
    assert "evaluate" not in stages(runs / "second")
    done = submit(head, "second")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "job second-2" in done.stderr
    assert "student: finished before, not repeated" in done.stdout
    assert stages(runs / "second") == ["data", "student", "evaluate"]


def test_another_token_is_refused_with_what_to_do(head: Any) -> None:
    refused = submit(head, "third", environment={**head.environment, "RAY_AUTH_TOKEN": "c" * 64})
    assert refused.returncode == 2
    assert "RAY_AUTH_TOKEN" in refused.stderr
