"""The pure parts of the stages: permuted rewards, sittings, stage lists, moving a finished demo aside."""

from pathlib import Path

from residency.platform.cli.boards import Board
from residency.platform.cli.conductor import stages_of
from residency.platform.cli.demo_command import move_aside
from residency.platform.cli.stages.rl_stage import GroupScreen, PromptOrder, open_calls
from residency.platform.cli.stages.sampling import request_seed
from residency.platform.cli.stages.sittings import Sitting, is_sat, note_sitting, plan_sittings, read_sittings
from residency.platform.cli.stages.step_batch import permuted_scores
from residency.platform.dataset_folder import Dataset, DatasetCard
from residency.platform.journal.records import Admitted, Answered, Dropped, Judged, Requested, Restored, Trained
from residency.platform.journal.state import JournalState
from residency.platform.media_store import MediaStore
from residency.platform.recipe import EvaluationConfig, Recipe
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split
from residency.platform.run_folder import RunFolder
from residency.training.rollouts.finished_group import FinishedGroup

RECIPE = Recipe.model_validate({"name": "test", "data": {"format": "starter"}})


def test_permuted_rewards_keep_each_groups_numbers_and_are_dealt_the_same_each_time() -> None:
    scores = (0.1, 1.0, 0.1, None, 0.0)
    many = [permuted_scores(scores, 0, f"rl_permuted-1-0000/{item}") for item in range(20)]
    assert all(sorted(dealt, key=str) == sorted(scores, key=str) for dealt in many)
    assert len(set(many)) > 1
    assert many == [permuted_scores(scores, 0, f"rl_permuted-1-0000/{item}") for item in range(20)]


def test_prompts_of_a_call_depend_on_its_number_alone_and_come_once_in_it() -> None:
    order = PromptOrder(item_ids=("a", "b", "c"), per_call=2)
    assert [order(number) for number in range(3)] == [("a", "b"), ("c", "a"), ("b", "c")]
    assert PromptOrder(item_ids=("a", "b"), per_call=3)(0) == ("a", "b")


def test_calls_that_no_step_has_used_up_are_open_and_numbers_go_on() -> None:
    state = JournalState()
    for key in ("rl-0000/a", "rl-0001/b", "rl-0002/c", "rl-0003/d", "rl_permuted-1-0007/a", "difficulty/a"):
        state.apply(Admitted(key))
    for key in ("rl-0000/a", "rl-0001/b", "rl-0003/d"):
        for record in (Requested(key, "g", 1), Answered(key, "g"), Judged(key, (0.0, 1.0))):
            state.apply(record)
    state.apply(Trained(("rl-0000/a",), 0, 1, "rl"))
    state.apply(Dropped("rl-0001/b", "too_easy"))
    calls, number = open_calls(state, "rl", "rl", PromptOrder(item_ids=("a", "b", "c", "d"), per_call=1))
    assert ([(call.number, call.item_ids) for call in calls], number) == ([(2, ("c",)), (3, ("d",))], 4)
    state.apply(Restored(1, 0, 0, "rl"))  # a is not in the weights any more: to be trained again, not asked again
    calls, _ = open_calls(state, "rl", "rl", PromptOrder(item_ids=("a", "b", "c", "d"), per_call=1))
    assert [call.number for call in calls] == [2, 3]


def test_a_group_whose_rewards_are_equal_says_why_it_teaches_nothing() -> None:
    def group(*scores: float | None) -> FinishedGroup:
        return FinishedGroup(key="k", item_id="i", trace_ids=(), scores=scores, token_steps={})

    screen = GroupScreen("dapo")
    said = [screen(each) for each in (group(1, 0), group(1, 1), group(0.1, 0.1), group(None, 1), group(None, None))]
    assert said == [None, "too_easy", "too_hard", "unscored", "unscored"]


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
