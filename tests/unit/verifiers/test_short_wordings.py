"""Answers of the kind short as models word them: what must be accepted, and what must not."""

import pytest

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.verifiers.rules import judge_answer


def item(answer: str, question: str, options: tuple[str, ...] = (), metadata: dict[str, object] | None = None) -> Item:
    return Item(
        id="i", content_key="c", source="s", split=Split.HELD_OUT, licence="MIT", cluster="k", question=question,
        options=options, answer=answer, answer_kind=AnswerKind.SHORT, family=Family.MEDICAL_MULTIMODAL,
        metadata=metadata or {},
    )  # fmt: skip


ITEM_1 = item("chest X-ray", "What modality?")
ITEM_2 = item("left kidney", "Which organ is affected?")
ITEM_3 = item("vertebrae", "what?")
ITEM_4 = item("computed tomography", "modality?")
ITEM_5 = item("oesophageal carcinoma", "dx?", metadata={"synonyms": ["gullet cancer"]})
ITEM_6 = item("liver, spleen", "which organs?")
ITEM_7 = item("磁共振", "成像方式？")
ITEM_8 = item("左肺", "病变在哪里？")

RIGHT = [
    (ITEM_1, [
        "chest x-ray", "CXR", "Chest radiograph", "chest radiography", "a chest X-ray",
        "The modality is a chest x-ray.", "X-ray of the chest", "This is a chest x-ray", "chest x ray",
        "Chest X-rays", "plain chest radiograph", "chest plain film", "It's a chest radiograph",
    ]),
    (ITEM_2, [
        "left kidney", "The left kidney", "kidney, left", "the left kidney is affected", "It is the left kidney",
        "Left renal", "The affected organ is the left kidney", "the kidney on the left side",
    ]),
    (ITEM_3, [
        "vertebra", "Vertebrae", "vertebras", "the vertebrae",
    ]),
    (ITEM_4, [
        "CT", "CT scan", "computed tomography (CT)", "CT (computed tomography)", "computerised tomography",
    ]),
    (ITEM_5, [
        "esophageal carcinoma", "Gullet cancer", "carcinoma of the oesophagus", "carcinoma of the esophagus",
    ]),
    (ITEM_6, [
        "spleen and liver", "liver and spleen", "Spleen, liver",
    ]),
    (ITEM_7, [
        "MRI", "核磁共振", "这是磁共振图像", "答案是磁共振成像", "MRI。",
    ]),
    (ITEM_8, [
        "左肺", "左侧肺", "左肺部", "病变位于左肺", "在左肺",
    ]),
]  # fmt: skip
WRONG = [
    (ITEM_4, [
        "CT/MRI", "CT or MRI", "CT angiography", "MRI (CT)", "PET/CT",
    ]),
    (ITEM_5, [
        "gastric carcinoma",
    ]),
    (ITEM_6, [
        "liver", "liver, spleen, kidney",
    ]),
    (ITEM_7, [
        "CT", "不是磁共振", "磁共振和CT",
    ]),
    (ITEM_8, [
        "右肺", "双肺", "左肺上叶", "左肺和右肺",
    ]),
]  # fmt: skip
NOT_RIGHT = [
    (ITEM_1, [
        "x-ray", "abdominal x-ray", "chest CT", "not a chest x-ray", "chest x-ray and CT", "no chest x-ray",
        "chest", "CT", "chest MRI", "lateral chest x-ray of the right lung",
    ]),
    (ITEM_2, [
        "right kidney", "kidney", "both kidneys", "left and right kidney", "bilateral kidneys", "kidneys", "left",
        "left kidney and spleen", "not the left kidney", "left liver", "left kidney or spleen",
        "right kidney, not left kidney",
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
