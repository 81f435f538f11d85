"""The run's folder: whole files or none, finished stages, refused recipes, full disks."""

import errno
import json
from pathlib import Path

import pyarrow as pa
import pytest

from residency.platform.errors import RecipeError, StorageError
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.report.run_files import read_lines
from residency.platform.run_folder import RunFolder, write_arrow, write_whole
from residency.platform.synthesis_config import BudgetConfig

RECIPE = Recipe.model_validate({"name": "test", "data": {"format": "starter"}})
PROFILE = Profile(name="test")


def test_a_line_that_was_torn_costs_no_other(tmp_path: Path) -> None:
    run, words = RunFolder(tmp_path), tmp_path / "events.jsonl"
    run.event("first")
    with words.open("ab") as file:
        file.write('{"t": 1.0, "kind": "tör'.encode()[:-2])  # a full disk, in the middle of a character
    run.event("second")
    run.metric("rl", 0, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"t": 1.0, "st')  # a killed driver
    assert [row["kind"] for row in read_lines(words)] == ["first", "second"]
    assert [row["name"] for row in read_lines(tmp_path / "metrics.jsonl")] == ["loss"]


def test_finished_stages_survive_a_torn_last_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.finish_stage("data", 1.5)
    with (tmp_path / "journal" / "stages.jsonl").open("a") as file:
        file.write('{"t": 1, "stage": "stu')
    assert run.finished_stages() == {"data": 1.5}
    run.finish_stage("student", 2.0)
    assert run.finished_stages() == {"data": 1.5, "student": 2.0}


def test_the_same_run_with_another_recipe_is_refused_by_key(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.open(RECIPE, PROFILE)
    run.open(RECIPE, PROFILE)
    with pytest.raises(RecipeError, match="seeds"):
        run.open(RECIPE.model_copy(update={"seeds": (3,)}), PROFILE)


def test_a_budget_may_be_raised_and_a_stage_opened_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.open(RECIPE, PROFILE)
    synthesis = RECIPE.synthesis.model_copy(update={"budget": BudgetConfig(money=5.0)})
    run.open(RECIPE.model_copy(update={"synthesis": synthesis}), PROFILE)
    assert run.recipe().synthesis.budget.money == 5.0
    other = synthesis.model_copy(update={"samples": 9})
    with pytest.raises(RecipeError, match="synthesis"):
        run.open(RECIPE.model_copy(update={"synthesis": other}), PROFILE)
    run.finish_stage("synthesize", 1.0)
    run.reopen_stage("synthesize")
    assert run.finished_stages() == {}
    run.finish_stage("synthesize", 3.0)
    assert run.finished_stages() == {"synthesize": 3.0}


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise RuntimeError("broken in the middle")

    with pytest.raises(RuntimeError, match="broken"):
        write_whole(tmp_path / "file.json", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_words() -> None:
    """/dev/full answers every write with ENOSPC."""

    def write(_: Path) -> None:
        with open("/dev/full", "w") as file:
            file.write("x" * 100_000)

    with pytest.raises(StorageError, match="No space left") as caught:
        write_whole(Path("/tmp/residency-never-written"), write)
    assert "free some space" in str(caught.value)
    assert caught.value.exit_code == 1
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == errno.ENOSPC


def test_metrics_events_and_summary(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metric("rl", 3, {"reward_mean": 0.5}, {"reward_mean": "1"})
    run.event("weights_updated", version="1.2")
    run.update_summary(rl={"steps": 4})
    run.update_summary(seconds={"rl": 1.0})
    metric = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert {key: metric[key] for key in ("step", "role", "name", "value", "unit")} == {
        "step": 3, "role": "rl", "name": "reward_mean", "value": 0.5, "unit": "1",
    }  # fmt: skip
    assert json.loads((tmp_path / "events.jsonl").read_text())["version"] == "1.2"
    assert run.summary() == {"rl": {"steps": 4}, "seconds": {"rl": 1.0}}


def test_arrow_files_read_back(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2]})
    write_arrow(table, tmp_path / "deep" / "part.arrow")
    with pa.memory_map(str(tmp_path / "deep" / "part.arrow")) as source:
        assert pa.ipc.open_file(source).read_all().equals(table)
