"""A tokenizer trained on the student's texts knows every word that the teacher and reflection may say."""

import re

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.synthesis.facts import TASKS
from residency.synthesis.strategies import STRATEGY_PHRASES
from residency.synthesis.student_texts import student_texts


def test_every_value_and_every_strategy_is_in_the_vocabulary() -> None:
    spec = TASKS["lesion_side"]
    item = Item(
        id="i",
        content_key="k",
        source="test",
        split=Split.TRAIN,
        licence="MIT",
        cluster="c",
        question="which side is the lesion on?",
        options=("left", "right"),
        answer="left",
        answer_kind=AnswerKind.CHOICE,
        family=Family.MEDICAL_MULTIMODAL,
        metadata={"task": spec.name, "facts": {fact.name: fact.values[0] for fact in spec.facts}},
    )
    words = set(re.findall(r"\w+", " ".join(student_texts([item], seed=0))))
    said = [fact.say(value) for fact in spec.facts for value in fact.values]
    said += [phrase for pair in STRATEGY_PHRASES.values() for phrase in pair]
    assert {word for text in said for word in re.findall(r"\w+", text)} <= words
    assert {"wait", "again", "wrong", "does", "fit", "left", "right", "first", "then"} <= words
