"""Runs that go on from another's stages: dead letters after the end, and the arms of an ablation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from residency.platform.cli.ablate_command import arm_recipes, prepare_arm
from residency.platform.cli.app import app
from residency.platform.cli.branching import branch_run
from residency.platform.errors import BadInputError, RecipeError
from residency.platform.recipe import MixtureConfig
from residency.platform.run_folder import RunFolder
from residency.synthesis.ablation import LEFT_OUT, arms
from residency.synthesis.lineage.pool_file import read_examples_table, read_pool
from residency.synthesis.teachers.teacher import TeacherError, TeacherRequest

pytestmark = pytest.mark.timeout(120)


def broken_at_four(made: Any) -> Callable[[TeacherRequest], str | Exception]:
    return lambda request: TeacherError("HTTP 500") if request.item.id == "item0004" else made.wrong_then_right(request)


def retry(*args: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["retry", *args, "--json"], catch_exceptions=False, standalone_mode=False)
    return json.loads(done.stdout)


def test_a_dead_letter_is_taken_up_after_the_stage_finished(made: Any, tmp_path: Path) -> None:
    run = made.run(tmp_path / "run", 10, broken_at_four(made))
    assert "synthesize" in run.finished_stages()
    said = retry(str(run.path))
    assert (said["reopened"], len(said["taken_up"])) == (["synthesize"], 2)  # type: ignore[arg-type]
    assert "synthesize" not in run.finished_stages()
    mended = made.Told(lambda request: made.right)
    made.ask(run, made.items(10), mended, made.recipe())
    assert set(mended.asked) == {"synth/item0004/0", "synth/item0004/1"}
    run.finish_stage("synthesize", 2.0)
    assert run.finished_stages()["synthesize"] == 2.0


def test_a_run_that_was_trained_on_its_mixture_is_retried_in_a_new_one(made: Any, tmp_path: Path) -> None:
    run = made.run(tmp_path / "run", 10, broken_at_four(made))
    run.finish_stage("sft", 1.0)
    with pytest.raises(BadInputError, match=r"--into NEW_RUN"):
        retry(str(run.path))
    said = retry(str(run.path), "--into", str(tmp_path / "new"))
    new = RunFolder(tmp_path / "new")
    assert said["run"] == str(new.path)
    assert set(new.finished_stages()) == {"data", "student"}
    mended = made.Told(lambda request: made.right)
    made.ask(new, made.items(10), mended, made.recipe())
    assert set(mended.asked) == {"synth/item0004/0", "synth/item0004/1"}, "what was answered is not asked again"
    made.finish(new, made.items(10), made.recipe())
    items = set(read_pool(new.path).column("item_id").to_pylist())
    assert len(items) == 10
    assert "sft" in run.finished_stages()


def test_the_five_mixtures_differ_in_one_part_and_not_in_size(made: Any) -> None:
    mixture = made.recipe().mixture
    found = arms(mixture)
    assert list(found) == ["all", *LEFT_OUT]
    assert found["all"] == mixture
    for arm, (key, name) in LEFT_OUT.items():
        shares = getattr(found[arm], key)
        assert name not in shares
        assert sum(shares.values()) == pytest.approx(1.0)
        whole = getattr(mixture, key)
        assert all(shares[other] / whole[other] == pytest.approx(1 / (1 - whole[name])) for other in shares)
        other_key = "families" if key == "targets" else "targets"
        assert getattr(found[arm], other_key) == getattr(mixture, other_key)
        assert found[arm].num_examples == mixture.num_examples
    with pytest.raises(RecipeError, match="textual_reasoning"):
        arms(MixtureConfig(examples=10, families={"medical_multimodal": 0.5, "general_multimodal": 0.5}))
    with pytest.raises(RecipeError, match="families is None"):
        arms(MixtureConfig(examples=10))


def test_an_arm_has_its_own_mixture_and_all_else_from_the_shared_run(made: Any, tmp_path: Path) -> None:
    run = made.run(tmp_path / "shared", 60)
    before = read_examples_table(run.examples).column("id").to_pylist()
    for arm, recipe in arm_recipes(made.recipe()).items():
        prepare_arm(run, tmp_path / arm, recipe, 0, made.laptop())
        branch = RunFolder(tmp_path / arm)
        assert set(branch.finished_stages()) == {"data", "student", "synthesize"}
        assert branch.recipe().mixture == recipe.mixture
        examples = read_examples_table(branch.examples)
        assert examples.num_rows == 20
        kinds = {*examples.column("target").to_pylist(), *examples.column("family").to_pylist()}
        assert (LEFT_OUT[arm][1] if arm in LEFT_OUT else "") not in kinds
        assert len(kinds) == (6 if arm == "all" else 5)
        prepare_arm(run, tmp_path / arm, recipe, 0, made.laptop())  # a second start leaves it alone
    assert arm_recipes(made.recipe())["without_text"].evaluation.checkpoints == ("sft",)
    assert read_examples_table(run.examples).column("id").to_pylist() == before
    with pytest.raises(BadInputError, match="holds something already"):
        branch_run(run, tmp_path / "all", "synthesize")
