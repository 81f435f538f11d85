"""SFT's own decisions: where it stops on its way, when it is over, what is written twice, when restarts end."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from residency.platform.cli.stages.learner_restarts import LearnersLost, Restarts, learners_at_work
from residency.platform.cli.stages.sft_stage import Progress, StepMetrics, source_of
from residency.platform.errors import DataError, DeadlineError, RoleError
from residency.platform.recipe import SftConfig
from residency.platform.run_folder import RunFolder

CONFIG = SftConfig(max_steps=70, evaluate_every=25, patience=2, min_gain=0.01)


def test_it_stops_at_checkpoints_and_looks_and_at_the_end() -> None:
    stops, now = list[int](), Progress()
    while not now.is_over(CONFIG):
        now = Progress(step=now.next_stop(CONFIG, every=20))
        stops.append(now.step)
    assert stops == [20, 25, 40, 50, 60, 70]
    assert [step for step in stops if Progress(step=step).looks_here(CONFIG)] == [25, 50, 70]


def test_a_plateau_is_looks_without_enough_gain_and_the_best_is_kept_all_the_same() -> None:
    now = Progress()
    for step, accuracy in ((25, 0.5), (50, 0.505), (70, 0.504)):
        now = Progress(step=step, best=now.best, best_step=now.best_step, waited=now.waited)
        now = now.looked(accuracy, CONFIG.min_gain)
    assert (now.best, now.best_step, now.waited) == (0.505, 50, 2)
    assert now.is_over(CONFIG)
    assert source_of(now) == "sft-steps/step-000070"
    assert source_of(Progress()) == "base"


def written(run: RunFolder, name: str) -> list[tuple[int, float]]:
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["value"]) for row in map(json.loads, lines) if row["name"] == name]


def test_a_repeated_step_is_written_again_only_where_it_differs(tmp_path: Path) -> None:
    run, events = RunFolder(tmp_path), list[tuple[str, dict[str, Any]]]()
    crew: Any = SimpleNamespace(run=run, event=lambda kind, **details: events.append((kind, details)))
    run.metric("warm_up", 0, {"loss": 9.0})
    first = StepMetrics(crew, "sft")
    first.write(0, {"loss": 0.1 + 0.2, "grad_norm": 1.0})
    first.write(1, {"loss": 0.25, "grad_norm": 1.0})
    again = StepMetrics(crew, "sft")  # another driver
    again.write(0, {"loss": 0.1 + 0.2, "grad_norm": 1.0})
    assert events == []
    again.write(1, {"loss": 0.26, "grad_norm": 1.0})
    again.write(2, {"loss": 0.2, "grad_norm": 1.0})
    assert written(run, "loss") == [(0, 9.0), (0, 0.1 + 0.2), (1, 0.25), (1, 0.26), (2, 0.2)]
    assert written(run, "grad_norm") == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert events == [
        ("repeated_step_differs", {"role": "sft", "step": 1, "first": {"loss": 0.25}, "again": {"loss": 0.26}})
    ]


def test_restarts_end_where_they_come_no_further() -> None:
    lost = LearnersLost("learner rank 1 died")
    restarts = Restarts(most=3)
    for step in (0, 0, 20, 20, 20):
        assert restarts.note(step, lost) == "learner rank 1 died"
    with pytest.raises(LearnersLost, match="rank 1 died"):
        restarts.note(20, lost)


def test_only_a_roles_failure_is_a_loss_of_the_learners() -> None:
    for error in (RoleError("learner rank 0 died"), DeadlineError("learner rank 0 did not finish")):
        with pytest.raises(LearnersLost) as caught, learners_at_work():
            raise error
        assert caught.value.__cause__ is error
    with pytest.raises(DataError), learners_at_work():
        raise DataError("an image is absent")
