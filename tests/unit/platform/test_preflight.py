"""`residency check` without torch or Ray: mistakes all at once, and a plan whose figures can be worked by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from residency.platform.errors import ModelError
from residency.platform.memory_plan import GIB, PUBLISHED, layout_of, learner_plan, plan_memory
from residency.platform.preflight import check, check_model
from residency.platform.profiles import Profile, load_profile
from residency.platform.recipe import Recipe, load_recipe
from residency.platform.shipped import find

STARTER = Recipe.model_validate({"name": "test", "data": {"format": "starter"}})


def test_the_papers_recipe_fits_the_cluster_profile_with_a_plan_for_each_role() -> None:
    recipe, profile = load_recipe(find("recipes", "infimed-3b")), load_profile(find("profiles", "cluster"))
    findings = check(recipe, profile)
    assert not findings.mistakes
    assert {plan.role.split()[0] for plan in findings.roles} == {
        "generator", "learner", "teacher", "verifier", "synthesizer", "publisher",
    }  # fmt: skip
    assert sum("not visible from here" in note for note in findings.notes) == 4
    unnamed = [key for key in ("sft.batch_size", "rl.group_size", "rl.clip_high") if key not in recipe.sources]
    assert not unnamed


def test_zero_3_divides_parameters_gradients_and_optimizer_by_the_ranks() -> None:
    """3.75e9 bf16 parameters on 4 ranks: 2, 2 and 12 bytes a parameter, each divided by 4."""
    profile = load_profile(find("profiles", "cluster"))
    plan = learner_plan(PUBLISHED["Qwen2.5-VL-3B-Instruct"], profile)
    assert plan.parameters_gib == pytest.approx(3.75e9 * 2 / 4 / GIB)
    assert plan.gradients_gib == pytest.approx(3.75e9 * 2 / 4 / GIB)
    assert plan.optimizer_gib == pytest.approx(3.75e9 * 12 / 4 / GIB)


def test_a_72b_on_one_gpu_is_refused_with_the_numbers() -> None:
    recipe = load_recipe(find("recipes", "infimed-3b"))
    profile = load_profile(find("profiles", "cluster"))
    one_gpu = profile.model_copy(update={"teachers": profile.teachers.model_copy(update={"tensor_parallel": 1})})
    mistakes = [str(mistake) for mistake in check(recipe, one_gpu).mistakes]
    assert any("72B" in mistake and "136.7 GiB" in mistake for mistake in mistakes)


def test_roles_that_do_not_fit_the_node_are_refused() -> None:
    assert any(
        "0.1 GiB" in str(m) for m in check(STARTER, Profile(name="x", cluster_cpus=2, node_memory_gib=0.1)).mistakes
    )


def test_missing_folders_are_mistakes_here_and_notes_on_a_cluster(tmp_path: Path) -> None:
    recipe = STARTER.model_validate(
        STARTER.model_dump() | {"data": {"format": "voc", "source": str(tmp_path / "none")}}
    )
    assert any("Annotations" in str(mistake) for mistake in check(recipe, Profile(name="x", cluster_cpus=2)).mistakes)
    assert not check(recipe, Profile(name="x")).mistakes


def test_a_model_folder_without_chat_template_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 5}))
    mistakes = check_model(str(tmp_path))
    assert len(mistakes) == 1
    assert "chat template" in str(mistakes[0])
    assert mistakes[0].exit_code == 2


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ModelError, match="Qwen2.5-VL-3B-Instruct"):
        layout_of("models/no-such-model")


def test_the_plan_of_the_tiny_model() -> None:
    assert [plan.role for plan in plan_memory(STARTER, Profile(name="x"))][:2] == ["generator", "learner"]


def test_check_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from residency.platform.cli.app import app; sys.argv = ['residency', 'check', 'starter'];"
        "app(standalone_mode=False); heavy = {'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
