from dataclasses import replace

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.verifiers.self_check import self_check

BASE = Item(
    id="i", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k", question="is a lesion present?",
    options=("ct", "mr"), answer="mr", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
)  # fmt: skip


def of(kind: AnswerKind, answer: str) -> Item:
    return replace(BASE, id=f"{kind.value} {answer}", answer_kind=kind, answer=answer, options=())


def test_sound_items_pass() -> None:
    items = [
        BASE,
        replace(BASE, options=("left", "upper left", "upper right"), answer="left"),
        replace(BASE, options=("0", "1", "2"), answer="2"),
        of(AnswerKind.YES_NO, "yes"),
        of(AnswerKind.YES_NO, "No"),
        of(AnswerKind.NUMBER, "0"),
        of(AnswerKind.NUMBER, "3"),
        of(AnswerKind.NUMBER, "-2.5"),
        of(AnswerKind.NUMBER, "500 mg"),
        of(AnswerKind.BOX, "[[0, 0, 1, 1]]"),
        of(AnswerKind.BOX, "[[0, 0, 0.05, 0.05]]"),
        of(AnswerKind.SHORT, "left lung"),
        of(AnswerKind.SHORT, "pneumonia"),
        of(AnswerKind.OPEN, "a round lesion"),
    ]
    assert [str(failure) for failure in self_check(items)] == []


def test_broken_rows_are_listed_once_each_with_the_reason() -> None:
    items = [
        BASE,
        replace(BASE, id="not an option", answer="pet"),
        replace(BASE, id="ambiguous", options=("ct", "ct or mr", "ct and mr"), answer="ct and mr"),
        of(AnswerKind.YES_NO, "maybe"),
        of(AnswerKind.NUMBER, "3 or 4"),
        of(AnswerKind.BOX, "[[0, 0, 84, 84]]"),
        of(AnswerKind.REPORT, "a long report"),
    ]
    failures = self_check(items)
    assert [failure.item_id for failure in failures] == [
        "not an option", "yes_no maybe", "number 3 or 4", "box [[0, 0, 84, 84]]", "report a long report"
    ]  # fmt: skip
    assert "none of the options" in str(failures[0])


def test_a_rule_that_would_accept_a_corrupted_answer_is_found() -> None:
    (failure,) = self_check([replace(of(AnswerKind.NUMBER, "3"), metadata={"tolerance": 5.0})])
    assert (failure.wanted, failure.score) == (0.0, 1.0)
