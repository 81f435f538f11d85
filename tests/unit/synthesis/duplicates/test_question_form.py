"""Which questions are one question."""

import pytest

from residency.platform.records import AnswerKind
from residency.synthesis.duplicates.item_keys import answer_key
from residency.synthesis.duplicates.question_form import asks_the_same, question_form
from residency.synthesis.duplicates.shingles import LONG_BANDS, SHORT_BANDS, band_keys, signatures

pytestmark = pytest.mark.timeout(60)

SAME = [
    ("Is there a fracture?", "Is a fracture visible in this image?"),
    ("Is there a pleural effusion on the left?", "Does the image show a left pleural effusion?"),
    ("What modality is this?", "Which imaging technique was used to acquire the picture?"),
    ("In which plane is the image?", "Which imaging plane is shown?"),
    ("How many nodules are seen?", "What is the number of nodules?"),
    ("Where is the lesion located?", "In which region does the lesion lie?"),
    ("Is the oesophagus normal?", "Is the esophagus normal?"),
    ("Is there pneumothorax?", "is there pnuemothorax ??"),
    ("图中有骨折吗?", "这张图像中是否存在骨折?"),
]
OTHER = [
    ("Is the liver enlarged?", "Is the spleen enlarged?"),
    ("Is there a mass in the left lung?", "Is there a mass in the right lung?"),
    ("Is there a fracture?", "Is there no fracture?"),
    ("Is there a fracture?", "Is there a fracture of the femur?"),
    ("Is there a hypodense lesion?", "Is there a hyperdense lesion?"),
    ("Does the patient have hypotension?", "Does the patient have hypertension?"),
    ("Is the peroneal nerve injured?", "Is the perineal nerve injured?"),
    ("Is the liver larger than the spleen?", "Is the spleen larger than the liver?"),
    ("Which organ is abnormal?", "Which disease is shown?"),
    ("Are there 2 nodules?", "Are there 3 nodules?"),
    ("图中肝脏正常吗?", "图中脾脏正常吗?"),
    ("是否有左肺结节?", "是否有右肺结节?"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_rephrasings_are_one_question(one: str, other: str) -> None:
    assert asks_the_same(question_form(one), question_form(other), True, 0.6)


@pytest.mark.parametrize(
    ("one", "other", "yes_no"), [*((*pair, True) for pair in OTHER), *((*pair, False) for pair in OTHER)]
)
def test_another_word_is_another_question(one: str, other: str, yes_no: bool) -> None:
    assert not asks_the_same(question_form(one), question_form(other), yes_no, 0.6)
    assert not asks_the_same(question_form(other), question_form(one), yes_no, 0.6)


def test_answers_meet_in_one_key() -> None:
    assert answer_key("CT", AnswerKind.SHORT) == answer_key("Computed tomography.", AnswerKind.CHOICE)
    assert answer_key("Yes", AnswerKind.YES_NO) == answer_key("yes.", AnswerKind.CHOICE)
    assert answer_key("left", AnswerKind.SHORT) != answer_key("right", AnswerKind.SHORT)


@pytest.mark.parametrize("shape", [SHORT_BANDS, LONG_BANDS])
def test_reordered_words_share_every_band_and_other_ones_none(shape: tuple[int, int]) -> None:
    texts = (
        "Is there a pleural effusion on the left?",
        "A left pleural effusion, is it there?",
        "Where is the kidney?",
    )
    keys = band_keys(signatures([question_form(text) for text in texts]), shape)
    assert (keys[0] == keys[1]).all()
    assert not (keys[0] == keys[2]).any()
