"""Verifiers of a user's own: ours, verl's and TRL's forms, each called through the real isolation."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from residency.platform.errors import RecipeError
from residency.platform.preflight import check
from residency.platform.profiles import load_profile
from residency.platform.recipe import RewardConfig
from residency.platform.recipe_file import load_recipe
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status, Verdict
from residency.platform.shipped import find
from residency.platform.verifiers.custom import load_function, may_define, version_of, why_not_found
from residency.platform.verifiers.isolation import IsolatedJudge
from residency.platform.verifiers.judge_request import JudgeLimits, JudgeRequest

ITEM = Item(
    id="i7", content_key="c", source="vqa-rad", split=Split.TRAIN, licence="MIT", cluster="k", question="which?",
    options=("ct", "mr"), answer="mr", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
    metadata={"modality": "MR"},
)  # fmt: skip
THINK = "<think>grey</think><answer>{}</answer>"
Judging = Callable[..., list[Verdict]]


@pytest.fixture
def judging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Judging]:
    """Writes a module with the source given and judges texts by a function of it."""
    judge = IsolatedJudge(JudgeLimits(sample_seconds=5.0))
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(source: str, *texts: str, item: Item = ITEM, mode: PromptMode = PromptMode.THINK, **reward: Any) -> Any:
        (tmp_path / "my_rules.py").write_text(source)
        requests = [JudgeRequest(item=item, trace_id=str(n), text=text, mode=mode) for n, text in enumerate(texts)]
        return judge.judge(requests, RewardConfig(**reward))

    yield run
    judge.close()


OURS = """
from residency.platform.records import Status, Verdict

def number(item, text, mode):
    return item.answer in text

def parts(item, text, mode):
    return {"accuracy": 1, "brevity": 1 / len(text.split()), "format": 0.5}

def verdict(item, text, mode):
    return Verdict(trace_id="", status=Status.ABSTAINED, score=0.25, evidence=f"{item.id} {mode}", verifier="mine",
                   verifier_version="3")

async def later(item, text, mode):
    return 1.0

def wrong(item, text, mode):
    return {"text": "yes", "none": None, "two": 2, "nan": float("nan"), "no accuracy": {"iou": 1.0},
            "error": Verdict(trace_id="", status=Status.ERROR, score=None, evidence="no network", verifier="mine",
                             verifier_version="3")}[text]
"""


def test_a_number_is_the_accuracy_and_the_format_is_ours(judging: Judging) -> None:
    verdicts = judging(OURS, THINK.format("mr"), THINK.format("ct"), "mr", verifier="my_rules:number")
    assert [(v.score, dict(v.parts)) for v in verdicts] == [
        (1.0, {"format": 1.0, "accuracy": 1.0}),
        (0.1, {"format": 1.0, "accuracy": 0.0}),
        (0.9, {"format": 0.0, "accuracy": 1.0}),
    ]
    assert {v.verifier for v in verdicts} == {"my_rules:number"}
    assert verdicts[0].verifier_version.startswith("sha256:")
    assert [v.trace_id for v in verdicts] == ["0", "1", "2"]


def test_parts_are_weighed_as_the_recipe_says(judging: Judging) -> None:
    weights = {"format": 0.2, "accuracy": 0.3, "brevity": 0.5}
    (verdict,) = judging(OURS, "two words", verifier="my_rules:parts", weights=weights)
    assert verdict.score == pytest.approx(0.2 * 0.5 + 0.3 + 0.5 * 0.5)


def test_a_verdict_stands_as_it_is(judging: Judging) -> None:
    (verdict,) = judging(OURS, "x", verifier="my_rules:verdict")
    assert verdict == Verdict(
        trace_id="0", status=Status.ABSTAINED, score=0.25, parts={"accuracy": 0.0}, evidence="i7 think",
        verifier="mine", verifier_version="3",
    )  # fmt: skip


def test_a_coroutine_is_awaited(judging: Judging) -> None:
    (verdict,) = judging(OURS, "x", verifier="my_rules:later", weights={"accuracy": 1.0})
    assert verdict.score == 1.0


def test_an_answer_of_another_form_is_an_error_with_its_reason(judging: Judging) -> None:
    reasons = {
        "text": "score is str",
        "none": "returned None: it does not apply",
        "two": "score is 2",
        "nan": "score is nan",
        "no accuracy": "`accuracy` among them",
        "error": "no network",
    }
    verdicts = judging(OURS, *reasons, verifier="my_rules:wrong")
    assert [(v.status, v.score) for v in verdicts] == [(Status.ERROR, None)] * len(reasons)
    for verdict, reason in zip(verdicts, reasons.values(), strict=True):
        assert reason in verdict.evidence


# As verl's documentation asks for them: named parameters, extra_info optional, a float or a dict with `score`.
VERL = """
import re

def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    found = re.search(r"<answer>(.*?)</answer>", solution_str)
    if found is None:
        return 0.0
    return 1.0 if found.group(1).strip() == ground_truth else 0.1

def with_details(data_source, solution_str, ground_truth, extra_info):
    right = ground_truth in solution_str
    said = f"{data_source}/{extra_info['index']}/{extra_info['split']}/{extra_info['modality']}"
    return {"score": 1.0 if right else -1.0, "acc": right, "pred": said}

def no_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"acc": True}
"""


def test_verls_compute_score_runs_unchanged(judging: Judging) -> None:
    accuracy = {"accuracy": 1.0}
    texts = [THINK.format(" mr "), THINK.format("ct") + "<|im_end|>", "mr"]
    verdicts = judging(VERL, *texts, verifier="my_rules:compute_score", interface="verl", weights=accuracy)
    assert [v.score for v in verdicts] == [1.0, 0.1, 0.0]


def test_verls_dict_and_a_range_from_minus_one(judging: Judging) -> None:
    own = {"verifier": "my_rules:with_details", "interface": "verl", "weights": {"accuracy": 1.0}}
    right, wrong = judging(VERL, "mr", "ct", **own, score_range=(-1, 1))
    assert (right.score, wrong.score) == (1.0, 0.0)
    assert "vqa-rad/i7/train/MR" in right.evidence
    (undeclared,) = judging(VERL, "ct", **own)
    assert undeclared.status is Status.ERROR
    assert "say what it returns in rl.reward.score_range" in undeclared.evidence


def test_verls_ground_truth_is_the_datasets_where_it_has_one(judging: Judging) -> None:
    lettered = replace(ITEM, metadata={"ground_truth": "B"})
    own = {"verifier": "my_rules:compute_score", "interface": "verl", "weights": {"accuracy": 1.0}}
    (verdict,) = judging(VERL, THINK.format("B"), item=lettered, **own)
    assert verdict.score == 1.0
    (verdict,) = judging(VERL, "x", verifier="my_rules:no_score", interface="verl")
    assert "`score` among them" in verdict.evidence


# As TRL's documentation asks for them: lists in, a list out, **kwargs for the columns that are not used.
TRL = """
import re

def exact(completions, answer, **kwargs):
    return [1.0 if completion == gold else 0.0 for completion, gold in zip(completions, answer)]

def chat_exact(prompts, completions, ground_truth, **kwargs):
    contents = [completion[0]["content"] for completion in completions]
    asked = [prompt[-1]["content"] for prompt in prompts]
    found = [re.search(r"<answer>(.*?)</answer>", content) for content in contents]
    return [float(bool(f) and f.group(1) == gold and "which?" in q) for f, gold, q in zip(found, ground_truth, asked)]

def one_task_only(prompts, completions, modality, log_metric=None, **kwargs):
    log_metric("samples", len(completions))
    return [1.0 if kind == "MR" and len(text) > 2 else None for text, kind in zip(completions, modality)]

async def later(prompts, completions, trainer_state, **kwargs):
    return [0.5 for _ in completions]

def too_few(completions, **kwargs):
    return [1.0]
"""
TRL_OWN = {"interface": "trl", "weights": {"accuracy": 1.0}}


def test_trls_reward_func_runs_unchanged_on_texts(judging: Judging) -> None:
    verdicts = judging(TRL, "mr", "ct", "mr", verifier="my_rules:exact", **TRL_OWN)
    assert [v.score for v in verdicts] == [1.0, 0.0, 1.0]
    (verdict,) = judging(TRL, "x", verifier="my_rules:later", **TRL_OWN)
    assert verdict.score == 0.5


def test_trls_reward_func_runs_unchanged_on_chat_messages(judging: Judging) -> None:
    own = TRL_OWN | {"interface": "trl_chat"}
    verdicts = judging(TRL, THINK.format("mr"), THINK.format("ct"), verifier="my_rules:chat_exact", **own)
    assert [v.score for v in verdicts] == [1.0, 0.0]


def test_a_reward_function_of_trl_itself_runs_unchanged(judging: Judging) -> None:
    pytest.importorskip("trl")
    source = "from trl.rewards.format_rewards import think_format_reward"
    texts = ["<think>a</think>b", "<think>a"]
    own = TRL_OWN | {"interface": "trl_chat"}
    verdicts = judging(source, *texts, verifier="my_rules:think_format_reward", **own)
    assert [v.score for v in verdicts] == [1.0, 0.0]


def test_none_from_trl_is_an_error_of_that_sample_and_no_zero(judging: Judging) -> None:
    verdicts = judging(TRL, "long", "x", "long", verifier="my_rules:one_task_only", **TRL_OWN)
    assert [(v.status, v.score) for v in verdicts] == [
        (Status.SCORED, 1.0), (Status.ERROR, None), (Status.SCORED, 1.0)
    ]  # fmt: skip
    assert "does not apply to this sample" in verdicts[1].evidence


def test_a_batch_of_the_wrong_length_is_no_verdict(judging: Judging) -> None:
    verdicts = judging(TRL, "a", "b", verifier="my_rules:too_few", **TRL_OWN)
    assert [v.status for v in verdicts] == [Status.ERROR] * 2
    assert all("returned 1 scores for 2 completions" in v.evidence for v in verdicts)
    assert judging(TRL, verifier="my_rules:too_few", **TRL_OWN) == []


def test_a_batch_larger_than_one_call(judging: Judging) -> None:
    texts = ["mr", "ct"] * 100
    verdicts = judging(TRL, *texts, verifier="my_rules:exact", **TRL_OWN)
    assert [v.score for v in verdicts] == [1.0, 0.0] * 100


def test_what_cannot_be_found_is_told_without_running_any_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("raise SystemExit('was run')")
    (tmp_path / "pack" / "rules.py").write_text("raise SystemExit('was run')\ndef score(item, text, mode): return 1\n")
    (tmp_path / "broken.py").write_text("def score(:\n")
    assert why_not_found("pack.rules:score") is None
    assert "defines no 'scores'" in (why_not_found("pack.rules:scores") or "")
    assert "no module 'pack.rule'" in (why_not_found("pack.rule:score") or "")
    assert "no module 'nowhere.rules'" in (why_not_found("nowhere.rules:score") or "")
    assert "no Python" in (why_not_found("broken:score") or "")
    assert why_not_found("math:fsum") is None
    assert "no module '__main__'" in (why_not_found("__main__:score") or "")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from rules import score", True),
        ("from rules import strict as score", True),
        ("import score", True),
        ("from rules import *", True),
        ("score = other(1)", True),
        ("class score: pass", True),
        ("def __getattr__(name): return print", True),
        ("if True:\n    def score(): pass", True),
        ("def scores(): return score", False),
    ],
)
def test_which_names_a_text_may_define(source: str, found: bool) -> None:
    assert may_define(source, "score") is found


def test_the_version_of_a_verifier_is_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, source in (("first_rules", "a = 1\n"), ("second_rules", "a = 2\n")):
        (tmp_path / f"{name}.py").write_text(source + "def score(item, text, mode): return a\n")
    first, second = (version_of(load_function(f"{name}_rules:score")) for name in ("first", "second"))
    assert first != second
    assert version_of(load_function("math:fsum")) == "unknown"


def test_check_names_a_verifier_that_is_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    tree = {"name": "x", "data": {"format": "starter"}, "rl": {"reward": {"verifier": "nowhere_rules:score"}}}
    path.write_text(yaml.safe_dump(tree))
    recipe = load_recipe(path)
    here = check(recipe, load_profile(find("profiles", "laptop")))
    assert ["nowhere_rules" in str(m) for m in here.mistakes if isinstance(m, RecipeError)] == [True]
    elsewhere = check(recipe, load_profile(find("profiles", "cluster")))
    assert any("nowhere_rules" in note for note in elsewhere.notes)
