from dataclasses import replace
from typing import Any

import pytest

from residency.platform.errors import RecipeError
from residency.platform.prompts import prompt_hash, render_completion, render_prompt
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split
from residency.platform.sampling import SamplingConfig

ITEM = Item(
    id="i", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k",
    question="what modality is this picture?", options=("ct", "mr", "ultrasound"), answer="mr",
    answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
)  # fmt: skip


def test_choice_in_think_mode() -> None:
    assert render_prompt(ITEM, PromptMode.THINK) == (
        "what modality is this picture?\n"
        "Choose from: ct, mr, ultrasound.\n"
        "Think inside <think> </think>, then answer inside <answer> </answer>."
    )


def test_open_question_has_no_options() -> None:
    item = replace(ITEM, answer_kind=AnswerKind.SHORT, options=())
    assert render_prompt(item, PromptMode.DIRECT) == "what modality is this picture?\nGive only the answer."


def test_the_answer_is_not_in_the_prompt_and_does_not_change_it() -> None:
    assert render_prompt(ITEM, PromptMode.DIRECT) == render_prompt(replace(ITEM, answer="ct"), PromptMode.DIRECT)


def test_order_of_options_and_mode_change_the_hash() -> None:
    turned = replace(ITEM, options=("mr", "ct", "ultrasound"))
    texts = [render_prompt(item, mode) for item in (ITEM, turned) for mode in PromptMode]
    assert len({prompt_hash(text) for text in texts}) == 4
    assert all(len(prompt_hash(text)) == 16 for text in texts)


def test_completion_forms() -> None:
    assert render_completion("mr", PromptMode.DIRECT) == "mr"
    assert render_completion("mr", PromptMode.THINK, "grey") == "<think>grey</think><answer>mr</answer>"


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"max_new_tokens": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}]
)
def test_sampling_refuses_values_out_of_range(wrong: dict[str, float]) -> None:
    values: dict[str, Any] = {"temperature": 1.0, "max_new_tokens": 8} | wrong
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        SamplingConfig(**values)
