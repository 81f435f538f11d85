"""Answers of the kind yes_no as models word them: what must be accepted, and what must not."""

import pytest

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.verifiers.rules import judge_answer


def item(answer: str, question: str, options: tuple[str, ...] = (), metadata: dict[str, object] | None = None) -> Item:
    return Item(
        id="i", content_key="c", source="s", split=Split.HELD_OUT, licence="MIT", cluster="k", question=question,
        options=options, answer=answer, answer_kind=AnswerKind.YES_NO, family=Family.MEDICAL_MULTIMODAL,
        metadata=metadata or {},
    )  # fmt: skip


ITEM_1 = item("yes", "Is there evidence of pneumothorax in the left lung?")
ITEM_2 = item("no", "Is there evidence of pneumothorax in the left lung?")
ITEM_3 = item("yes", "Is the heart normal in size?")
ITEM_4 = item("yes", "Is the gallbladder absent?")
ITEM_5 = item("no", "图中是否有肺结节？")
ITEM_6 = item("是", "这是CT图像吗？")

RIGHT = [
    (ITEM_1, [
        "yes", "Yes.", "YES", "Yes, there is.", "yes, there is a pneumothorax",
        "There is a pneumothorax in the left lung.", "Yes, a left pneumothorax is seen", "The answer is yes.",
        "Answer: Yes", "Evidence of pneumothorax is seen in the left lung",
        "pneumothorax is present in the left lung", "是", "是的", "有", "I would say yes", "Yes — clearly visible.",
        "True", "Yes, it is present", "That is correct", "Yes, without doubt", "yes, there is no doubt",
    ]),
    (ITEM_2, [
        "no", "No.", "NO", "No, there is not", "No, there is no pneumothorax.",
        "There is no evidence of pneumothorax", "there is no pneumothorax in the left lung",
        "No pneumothorax is seen", "no pneumothorax", "It is not present.", "absent", "not present",
        "pneumothorax is absent", "否", "没有", "不是", "无", "negative", "There isn't.", "there is not",
        "The left lung shows no pneumothorax", "No evidence of pneumothorax.", "pneumothorax is not seen",
        "without pneumothorax", "The answer is no", "No, the lungs are clear.", "no signs of a pneumothorax",
        "No - normal lung", "No abnormality is seen", "False",
    ]),
    (ITEM_3, [
        "normal", "The heart is normal in size.", "yes", "heart size is normal",
    ]),
    (ITEM_4, [
        "The gallbladder is absent", "yes, it is absent",
    ]),
    (ITEM_5, [
        "没有肺结节", "否", "图中没有肺结节。", "未见肺结节", "没有，肺部清晰", "不是", "答案是否", "不，没有",
    ]),
    (ITEM_6, [
        "是", "是的，这是CT图像", "对", "这是CT图像",
    ]),
]  # fmt: skip
WRONG = [
    (ITEM_3, [
        "The heart is not normal in size", "abnormal", "No",
    ]),
    (ITEM_5, [
        "有", "有肺结节", "是",
    ]),
    (ITEM_6, [
        "不是", "这不是CT图像",
    ]),
]  # fmt: skip
NOT_RIGHT = [
    (ITEM_1, [
        "no", "there is no pneumothorax", "not present", "No pneumothorax", "absent", "right pneumothorax",
        "There is a pneumothorax in the right lung", "yes, there is no pneumothorax",
        "Yes, no pneumothorax is seen", "pneumothorax cannot be excluded", "possible pneumothorax", "yes. no.",
        "eyes", "Is there evidence of pneumothorax?",
    ]),
    (ITEM_2, [
        "yes", "yes, there is.", "There is a pneumothorax in the left lung.", "normal", "maybe", "yes and no",
        "no and yes", "not no", "cannot be excluded", "no idea", "I do not know", "none", "unknown", "possible",
        "There is no pleural effusion", "nо", "Pneumothorax is present in the left lung", "yes/no", "No? Yes.",
        "The grader should output 1: no", "", "", "no, pneumothorax is present in the left lung", "nodule",
        "not applicable", "It is not clear", "It cannot be determined",
    ]),
    (ITEM_3, [
        "the heart is enlarged",
    ]),
    (ITEM_4, [
        "present", "the gallbladder is present",
    ]),
    (ITEM_5, [
        "是或否", "是，没有", "不确定", "无法判断",
    ]),
    (ITEM_6, [
        "这是MRI图像", "是，这不是CT图像",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "spans"), RIGHT)
def test_accepted(asked: Item, spans: list[str]) -> None:
    assert [span for span in spans if judge_answer(asked, span).accuracy != 1] == []


@pytest.mark.parametrize(("asked", "spans"), WRONG)
def test_wrong(asked: Item, spans: list[str]) -> None:
    assert [span for span in spans if judge_answer(asked, span).accuracy != 0] == []


@pytest.mark.parametrize(("asked", "spans"), NOT_RIGHT)
def test_not_accepted(asked: Item, spans: list[str]) -> None:
    assert [span for span in spans if judge_answer(asked, span).accuracy == 1] == []
