"""The pure parts of the stages: batches, permuted rewards, sittings, stage lists, moving a finished demo aside."""

import itertools
import random
from pathlib import Path

from residency.platform.cli.conductor import stages_of
from residency.platform.cli.demo_command import move_aside
from residency.platform.cli.stages.evaluate_stage import Sitting, known_sittings
from residency.platform.cli.stages.rl_stage import permute_within_groups
from residency.platform.cli.stages.sampling import request_seed
from residency.platform.cli.stages.sft_stage import batches
from residency.platform.recipe import Recipe
from residency.platform.records import PromptMode
from residency.platform.run_folder import RunFolder

RECIPE = Recipe.model_validate({"name": "test", "data": {"format": "starter"}})


def test_batches_give_every_row_once_an_epoch_in_full_batches() -> None:
    drawn = list(itertools.islice(batches(10, 4, seed=1), 5))
    assert all(len(batch) == 4 for batch in drawn)
    rows = [row for batch in drawn for row in batch]
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert drawn == list(itertools.islice(batches(10, 4, seed=1), 5))
    assert drawn != list(itertools.islice(batches(10, 4, seed=2), 5))


def test_permuted_rewards_keep_each_groups_numbers() -> None:
    scores: list[list[float | None]] = [[0.1, 1.0, 0.1, None, 0.0], [1.0, 0.0]]
    permuted = permute_within_groups(scores, random.Random(0))
    assert [sorted(group, key=str) for group in permuted] == [sorted(group, key=str) for group in scores]
    many = [permute_within_groups(scores, random.Random(seed))[0] for seed in range(20)]
    assert any(group != scores[0] for group in many)


def test_request_seeds_depend_on_every_part() -> None:
    seeds = {request_seed(seed, purpose, item) for seed in (0, 1) for purpose in ("a", "b") for item in ("x", "y")}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_stages_follow_the_recipe() -> None:
    assert stages_of(RECIPE, "sft") == ["data", "student", "warm_up", "synthesize", "sft"]
    assert "controls" not in stages_of(RECIPE, "evaluate")
    without_rl = RECIPE.model_copy(update={"rl": RECIPE.rl.model_copy(update={"steps": 0})})
    assert stages_of(without_rl, "evaluate")[-2:] == ["sft", "evaluate"]


def test_sittings_are_found_by_their_files() -> None:
    greedy, sampled = Sitting(checkpoint="rl"), Sitting(checkpoint="rl", temperature=1.0, samples=4)
    direct = Sitting(checkpoint="sft", prompt_mode=PromptMode.DIRECT)
    found = known_sittings({f"{sitting.name}.parquet" for sitting in (greedy, sampled, direct)} | {"other.parquet"})
    assert {sitting.name for sitting in found} == {greedy.name, sampled.name, direct.name}


def test_a_finished_demo_moves_aside_and_an_unfinished_one_stays(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "demo")
    run.finish_stage("data", 1.0)
    assert move_aside(run.path) is None
    run.finish_stage("demo", 1.0)
    (tmp_path / "demo-1").mkdir()
    assert move_aside(run.path) == tmp_path / "demo-2"
    assert not run.path.exists()
