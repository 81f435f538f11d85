import pickle
from typing import Any

import pytest

from residency.platform.errors import BadInputError
from residency.platform.prompts import render_prompt
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status, Verdict
from residency.platform.verifiers.accepting import accept
from residency.platform.verifiers.rules import VERIFIER_VERSION
from residency.training.evaluation.scoring.profile_difference import compare_profiles
from residency.training.evaluation.scoring.profiles import PROFILES, STRICT, find_profile

ITEM = Item(
    id="item",
    content_key="content",
    source="vqa-rad",
    split=Split.HELD_OUT,
    licence="CC0",
    cluster="image",
    question="Is there a nodule?",
    answer="no",
    answer_kind=AnswerKind.YES_NO,
    family=Family.MEDICAL_MULTIMODAL,
)


def verdict(status: Status, **parts: float) -> Verdict:
    return Verdict(trace_id="t", status=status, score=None, parts=parts, verifier="v", verifier_version="1")


def test_accepted_is_scored_and_fully_right() -> None:
    assert accept(verdict(Status.SCORED, accuracy=1.0))
    assert not accept(verdict(Status.SCORED, accuracy=0.99))
    assert not accept(verdict(Status.ABSTAINED, accuracy=1.0))
    assert not accept(verdict(Status.ERROR))
    assert not accept(verdict(Status.SCORED))


def test_an_open_answer_is_accepted_when_exact_whatever_its_token_f1() -> None:
    assert not accept(verdict(Status.SCORED, accuracy=1.0, exact=0.0))
    assert accept(verdict(Status.SCORED, accuracy=1.0, exact=1.0))


def test_profiles_are_found_by_name_and_labelled_with_their_version() -> None:
    assert find_profile("strict").label == f"strict-{VERIFIER_VERSION}"
    assert find_profile("medevalkit").label == "medevalkit-1"
    with pytest.raises(BadInputError, match="strict, medevalkit"):
        find_profile("lenient")


@pytest.mark.parametrize("name", list(PROFILES))
def test_a_profile_pickles_and_names_itself_in_its_verdicts(name: str) -> None:
    profile = pickle.loads(pickle.dumps(find_profile(name)))
    said = profile.score(ITEM, "trace", "no", PromptMode.DIRECT)
    assert (said.trace_id, said.verifier, said.verifier_version) == ("trace", f"{name}/yes_no", profile.version)
    assert said.score == 1.0
    assert "span 'no'" in said.evidence


def test_strict_prompts_as_training_does_and_scores_the_accuracy_alone() -> None:
    assert STRICT.prompt(ITEM, PromptMode.THINK) == render_prompt(ITEM, PromptMode.THINK)
    no_format = STRICT.score(ITEM, "t", "<answer>no</answer>", PromptMode.THINK)
    assert (no_format.score, no_format.parts["format"]) == (1.0, 0.0)


def row(profile: str, accuracy: float, **changes: Any) -> dict[str, Any]:
    usual = {
        "checkpoint": "sft",
        "dataset": "slake",
        "seed": 0,
        "prompt_mode": "think",
        "decoding": "greedy",
        "image": "true",
        "n": 200,
        "abstained": 0,
        "errors": 0,
        "valid_format": 1.0,
    }
    return usual | {"profile": profile, "accuracy": accuracy} | changes


def test_a_difference_of_more_than_a_point_is_told_with_what_was_not_read() -> None:
    (told,) = compare_profiles(
        [row("strict-1", 0.50, abstained=12, errors=3, valid_format=0.4), row("medevalkit-1", 0.55, valid_format=0.9)]
    )
    assert "sft on slake (think, greedy, image true, seed 0)" in told
    assert "medevalkit-1 gives 5.0 points more than strict-1 (55.0 against 50.0, n 200)" in told
    assert "strict-1 abstained on 12" in told
    assert "medevalkit-1 found no answer in 20 and guessed or gave up" in told
    assert "strict-1 has no verdict on 3" in told


def test_the_profile_that_gives_more_is_named_first() -> None:
    (told,) = compare_profiles([row("strict-1", 0.60, seed=None), row("medevalkit-1", 0.55, seed=None)])
    assert "all seeds" in told
    assert "strict-1 gives 5.0 points more than medevalkit-1" in told
    assert "Both read every answer" in told


def test_a_point_or_less_and_other_sittings_are_not_compared() -> None:
    assert compare_profiles([row("strict-1", 0.50), row("medevalkit-1", 0.51)]) == []
    assert compare_profiles([row("strict-1", 0.50), row("medevalkit-1", 0.90, dataset="vqa-rad")]) == []
    assert compare_profiles([row("strict-1", 0.50), row("medevalkit-1", 0.90, image="blank")]) == []
    assert compare_profiles([]) == []
