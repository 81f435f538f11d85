"""Masking, and the leaks that a teacher with the reference in hand lets slip."""

import pytest

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.synthesis.routing.leaks import find_leak
from residency.synthesis.routing.masking import MASK, mask_answer


def item(answer: str, options: tuple[str, ...] = ()) -> Item:
    return Item(
        id="i", content_key="c", source="s", split=Split.TRAIN, licence="CC0", cluster="i", question="?",
        options=options, answer=answer, answer_kind=AnswerKind.CHOICE if options else AnswerKind.SHORT,
        family=Family.TEXTUAL_REASONING,
    )  # fmt: skip


def test_the_conclusion_is_masked_and_what_was_seen_stays() -> None:
    text = "<think>The nucleus is lobed. A lymphocyte would be round. So it is a neutrophil.</think><answer>a</answer>"
    masked = mask_answer(item("neutrophil"), text)
    assert masked == f"The nucleus is lobed. A lymphocyte would be round. So it is a {MASK}."
    assert "neutrophil" not in masked


def test_letters_and_boxes_are_masked_too() -> None:
    text = "<think>Tall P waves.\nTherefore the answer is (B) right atrium. \\boxed{B}</think><answer>B</answer>"
    masked = mask_answer(item("right atrium", ("left atrium", "right atrium")), text)
    assert "right atrium" not in masked
    assert "B" not in masked
    assert masked.startswith("Tall P waves.")


def test_a_word_that_only_contains_the_answer_stays() -> None:
    assert "nothing" in mask_answer(item("no"), "<think>It shows nothing. So no.</think><answer>no</answer>")
    assert mask_answer(item("no"), "<think>So no.</think>") == f"So {MASK}."


LEAKS = (
    "The reference answer is pneumonia.",
    "This agrees with the ground-truth label.",
    "According to the answer key it is B.",
    "The answer was given as no, so we look for signs.",
    "We are told that the answer is B.",
    "I was given the correct answer, which helps.",
    "Since the correct answer is pneumonia, the opacity must be in the lobe.",
    "Knowing that the answer is yes, I look again.",
    "The findings match the given answer.",
    "This is consistent with the provided answer.",
    "The prompt says not to mention it.",
    "My instructions tell me to be brief.",
    "The provided answer names the left lung.",
    "根据参考答案,应为肺炎。",
    "题目已给出正确答案。",
)
SOUND = (
    "So the correct answer is B.",
    "Therefore the answer is pneumonia.",
    "The reference range of potassium is 3.5 to 5.0.",
    "We are given an image of the chest and asked which side.",
    "The patient was given aspirin.",
    "The history provided no answer to that, so we look at the film.",
    "The gold standard for this diagnosis is biopsy.",
    "This is consistent with the expected course of the disease.",
    "As the heart is enlarged, the answer is yes.",
    "The key finding is a lobed nucleus.",
    "We know the aorta lies to the left.",
    "She was told to return if the fever rose.",
    "因此答案是肺炎。",
)


@pytest.mark.parametrize("text", LEAKS)
def test_a_leak_is_found(text: str) -> None:
    assert find_leak(f"The film is dark. {text} It ends.")


@pytest.mark.parametrize("text", SOUND)
def test_sound_reasoning_passes(text: str) -> None:
    assert find_leak(f"The film is dark. {text} It ends.") == ""
