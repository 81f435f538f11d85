"""The pure parts of the stages: batches, permuted rewards, sittings, stage lists, moving a finished demo aside."""

import itertools
import random
from pathlib import Path

from residency.platform.cli.boards import Board
from residency.platform.cli.conductor import stages_of
from residency.platform.cli.demo_command import move_aside
from residency.platform.cli.stages.rl_stage import permute_within_groups
from residency.platform.cli.stages.sampling import request_seed
from residency.platform.cli.stages.sft_stage import batches
from residency.platform.cli.stages.sittings import Sitting, is_sat, note_sitting, plan_sittings, read_sittings
from residency.platform.dataset_folder import Dataset, DatasetCard
from residency.platform.media_store import MediaStore
from residency.platform.recipe import EvaluationConfig, Recipe
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split
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


def test_a_model_alone_is_examined_without_training() -> None:
    alone = RECIPE.model_copy(update={"evaluation": EvaluationConfig(checkpoints=("base",))})
    assert stages_of(alone, "evaluate") == ["data", "student", "evaluate"]
    assert stages_of(alone, "sft")[-1] == "sft", "a stage that is asked for by name is carried out"
    without_rl = RECIPE.model_copy(update={"evaluation": EvaluationConfig(checkpoints=("base", "sft"))})
    assert stages_of(without_rl, "evaluate")[-2:] == ["sft", "evaluate"]


def board(name: str, own: bool, media: tuple[str, ...]) -> Board:
    item = Item(
        id=name, content_key=name, source=name, split=Split.HELD_OUT, licence="CC0", cluster=name, media=media,
        question="?", answer="yes", answer_kind=AnswerKind.YES_NO, family=Family.MEDICAL_MULTIMODAL,
    )  # fmt: skip
    return Board(dataset=Dataset((item,), MediaStore(Path("media")), card(name)), own=own)


def card(name: str) -> DatasetCard:
    return DatasetCard(name=name, source="-", licence="CC0", splits="-")


def test_both_prompt_modes_and_every_image_condition_are_sat_where_there_are_images() -> None:
    boards = [board("own", True, ("a" * 64,)), board("text", False, ())]
    plan = plan_sittings(RECIPE, boards, "sft", 0.6)
    names = {(sitting.board, sitting.name) for sitting in plan}
    own = {"think-greedy-true", "think-sampled-true", "think-sampled-at-T=0.6-true", "direct-greedy-true",
           "think-greedy-blank", "think-greedy-shuffled", "think-greedy-none"}  # fmt: skip
    assert names == {("own", f"sft-{name}") for name in own} | {
        ("text", "sft-think-greedy-true"), ("text", "sft-direct-greedy-true"),
    }  # fmt: skip
    assert len(names) == len(plan)


def test_sittings_are_found_again_in_the_order_of_the_tables(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    wanted = [
        Sitting(board="own", checkpoint="base"),
        Sitting(board="own", checkpoint="sft"),
        Sitting(board="own", checkpoint="sft", temperature=1.0, samples=4),
        Sitting(board="own", checkpoint="sft", image="blank"),
        Sitting(board="own", checkpoint="sft", prompt_mode=PromptMode.DIRECT),
        Sitting(board="own", checkpoint="rl"),
        Sitting(board="vqa", checkpoint="rl"),
    ]
    for sitting in reversed(wanted):
        note_sitting(run, sitting, f"hash of {sitting.board}")
    assert list(read_sittings(run)) == wanted
    assert set(read_sittings(run).values()) == {"hash of own", "hash of vqa"}
    assert is_sat(run, wanted[0])
    assert not is_sat(run, Sitting(board="own", checkpoint="rl", image="none"))


def test_a_finished_demo_moves_aside_and_an_unfinished_one_stays(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "demo")
    run.finish_stage("data", 1.0)
    assert move_aside(run.path) is None
    run.finish_stage("demo", 1.0)
    (tmp_path / "demo-1").mkdir()
    assert move_aside(run.path) == tmp_path / "demo-2"
    assert not run.path.exists()
