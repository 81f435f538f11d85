"""`residency check` without torch or Ray: mistakes all at once, and a plan whose figures can be worked by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from residency.platform.cli.check_command import report_findings
from residency.platform.errors import ModelError
from residency.platform.memory_plan import (
    GIB,
    PUBLISHED,
    generator_plan,
    layout_of,
    learner_plan,
    plan_memory,
    plan_store,
)
from residency.platform.preflight import check, check_data, check_fit, check_model
from residency.platform.profiles import GeneratorConfig, Profile, RoleConfig, load_profile
from residency.platform.recipe import KlConfig, Recipe
from residency.platform.recipe_file import load_recipe
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


def test_each_rank_of_an_engine_on_cpu_has_its_share_of_parameters_and_a_cache() -> None:
    """Two engines of two ranks: 3.75e9 fp32 parameters are halved, the cache is not, and the node holds four ranks."""
    config = GeneratorConfig(actors=2, tensor_parallel=2, kv_cache_gib=1.0)
    profile = Profile(name="x", cluster_cpus=8, node_memory_gib=31, generators=config)
    plan = generator_plan("generator", PUBLISHED["Qwen2.5-VL-3B-Instruct"], config, profile)
    assert plan.parameters_gib == pytest.approx(3.75e9 * 4 / 2 / GIB)
    assert (plan.kv_cache_gib, plan.ranks, plan.actors) == (1.0, 2, 2)
    (mistake,) = check_fit((plan,), profile)
    assert f"{4 * (3.75e9 * 2 / GIB + 1):.1f} GiB, and the node has 31.0 GiB" in str(mistake)
    assert not check_fit((plan,), profile.model_copy(update={"node_memory_gib": 32}))


def test_what_the_node_types_could_never_give_is_refused_and_what_they_might_is_a_note() -> None:
    recipe, profile = load_recipe(find("recipes", "infimed-3b")), load_profile(find("profiles", "cluster"))

    def with_generators(**changes: int) -> Profile:
        return profile.model_copy(update={"generators": profile.generators.model_copy(update=changes)})

    findings = check(recipe, with_generators(actors=33))
    assert any("33 generators" in str(m) and "seat 32 of them" in str(m) for m in findings.mistakes)
    findings = check(recipe, with_generators(max_actors=33))
    assert not findings.mistakes
    assert any("may grow to 33 actors" in note and "seat 32" in note for note in findings.notes)
    findings = check(STARTER, Profile(name="x", cluster_cpus=2, verifiers=RoleConfig(actors=3, cpus=0.6)))
    assert any("and this machine at their maximum have 2" in str(mistake) for mistake in findings.mistakes)
    findings = check(STARTER, Profile(name="x", cluster_cpus=2, verifiers=RoleConfig(labels={"role": "cpu"})))
    assert any("role=cpu" in str(mistake) for mistake in findings.mistakes)


def test_a_cluster_file_that_is_not_here_is_a_note_and_one_without_types_a_mistake(tmp_path: Path) -> None:
    profile = Profile(name="x", cluster_file=str(tmp_path / "cluster.yaml"))
    findings = check(STARTER, profile)
    assert not findings.mistakes
    assert any("cluster.yaml is not visible from here" in note for note in findings.notes)
    (tmp_path / "cluster.yaml").write_text("cluster_name: x\n")
    assert any("available_node_types" in str(mistake) for mistake in check(STARTER, profile).mistakes)


def test_the_store_holds_the_versions_that_are_kept_and_a_steps_rollouts() -> None:
    """2 versions of 3.75e9 bf16 parameters; 128 × 8 rollouts of 2,048 tokens in (8 bytes) and 2,048 out (32 bytes)."""
    recipe, profile = load_recipe(find("recipes", "infimed-3b")), load_profile(find("profiles", "cluster"))
    store = plan_store(recipe, profile)
    assert store.total_gib == pytest.approx((2 * 3.75e9 * 2 + 1024 * 2048 * 40) / GIB)
    assert store.size_gib == 64
    assert not any("spill" in note for note in check(recipe, profile).notes)
    late = recipe.model_copy(update={"rl": recipe.rl.model_copy(update={"staleness": 2, "oversample": 1.5})})
    assert plan_store(late, profile).rollouts == 3 * 192 * 8, "what the bound lets be under way"
    small = profile.model_copy(update={"object_store_mib": 1024})
    assert any("spill to disk" in note for note in check(recipe, small).notes)


def test_the_plan_counts_a_frozen_reference_where_the_recipe_has_kl() -> None:
    recipe, profile = load_recipe(find("recipes", "infimed-3b")), load_profile(find("profiles", "cluster"))
    kl = KlConfig(place="loss", estimator="k3", coefficient=0.01)
    with_kl = recipe.model_copy(update={"rl": recipe.rl.model_copy(update={"kl": kl})})
    plain, held = (next(p for p in plan_memory(each, profile) if p.role == "learner") for each in (recipe, with_kl))
    assert held.parameters_gib == pytest.approx(2 * plain.parameters_gib)
    assert held.optimizer_gib == plain.optimizer_gib


def test_the_plan_says_where_each_role_goes(capsys: pytest.CaptureFixture[str]) -> None:
    recipe, profile = load_recipe(find("recipes", "infimed-3b")), load_profile(find("profiles", "cluster"))
    report_findings(check(recipe, profile), recipe, as_json=True)
    document = json.loads(capsys.readouterr().out)
    roles = {role["role"]: role for role in document["roles"]}
    assert roles["learner"]["goes_to"] == ["gpu_learners (role=learner)"]
    assert roles["verifier"]["goes_to"] == ["cpu (role=cpu)", "gpu_generators (role=generator)"]
    assert roles["generator"]["max_actors"] == 16
    loads = {tuple(load["types"]): load for load in document["node_types"]}
    assert loads[("cpu",)]["cpus"] == [10, 40, 96]
    assert loads[("gpu_generators",)]["gpus"] == [4 + 4, 16 + 4, 32]
    assert document["object_store"]["media_gib"] is None


@pytest.mark.parametrize("transport", ["nccl", "ipc"])
def test_a_transport_of_weights_that_nobody_could_try_is_refused(transport: str) -> None:
    profile = Profile.model_validate({"name": "x", "cluster_cpus": 2, "weight_transport": transport})
    (mistake,) = check(STARTER, profile).mistakes
    assert f"weight_transport {transport}" in str(mistake)
    assert "no GPU was at hand to try it" in str(mistake)
    assert "set weight_transport to object_store" in str(mistake)
    assert mistake.exit_code == 2
    assert not check(STARTER, profile.model_copy(update={"weight_transport": "object_store"})).mistakes


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


def test_a_teacher_at_an_endpoint_has_no_folder_to_check() -> None:
    teachers = [{"kind": "openai", "model": "large-vl", "url": "https://host/v1"}]
    recipe = Recipe.model_validate({"name": "t", "data": {"format": "starter"}, "synthesis": {"teachers": teachers}})
    assert check(recipe, load_profile(find("profiles", "laptop"))).mistakes == ()


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


def test_items_without_a_verifier_are_refused_wherever_they_are_named(tmp_path: Path) -> None:
    """Reports have no verifier yet: the check says so, not the hour in which the first one is judged."""
    for name, kinds in (("sound", ["yes_no", "open"]), ("reports", ["yes_no", "report", "report"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.yaml").write_text("")
        pq.write_table(pa.table({"answer_kind": kinds}), tmp_path / name / "items.parquet")
    sound, reports = str(tmp_path / "sound"), str(tmp_path / "reports")
    data = {"name": "test", "data": {"format": "dataset", "source": sound}}
    assert not check_data(Recipe.model_validate(data))
    data = {"name": "test", "data": {"format": "dataset", "source": reports}, "evaluation": {"datasets": [reports]}}
    for key, mistake in zip(
        ("data.source", "evaluation.datasets"), check_data(Recipe.model_validate(data)), strict=True
    ):
        assert f"{key} {reports} has 2 items of the answer kind report" in str(mistake)
    (tmp_path / "reports" / "items.parquet").write_bytes(b"torn")
    assert not check_data(Recipe.model_validate(data)), "what cannot be read is told by whoever reads it"


def test_devices_in_turns_want_synchronous_rl_and_gpus_that_hold_one_engine_and_one_rank() -> None:
    turns = load_profile(find("profiles", "laptop")).model_copy(update={"colocate": True})
    assert not check(STARTER, turns).mistakes
    late = STARTER.model_copy(update={"rl": STARTER.rl.model_copy(update={"staleness": 1})})
    (mistake,) = check(late, turns).mistakes
    assert "rl.staleness 1" in str(mistake)
    assert "colocate" in str(mistake)

    def gpus(engines: int, engine: float, ranks: int, rank: float) -> Profile:
        roles = {"generators": {"actors": engines, "gpus": engine}, "learners": {"actors": ranks, "gpus": rank}}
        return Profile.model_validate({"name": "g", "colocate": True, **roles})

    assert gpus(1, 0.5, 1, 0.5).colocate
    assert gpus(4, 0.6, 4, 0.4).colocate
    for wrong in ((4, 0.5, 4, 0.5), (4, 0.6, 2, 0.4), (1, 1.0, 1, 1.0), (1, 1.0, 1, 0.0)):
        with pytest.raises(ValidationError, match="colocate with generators"):
            gpus(*wrong)
