"""Right, wrong and empty answers of every kind: the score of the accuracy part, or abstained."""

import pytest

from residency.platform.errors import DataError
from residency.platform.verifiers.box import judge_box, mean_iou
from residency.platform.verifiers.choice import judge_choice
from residency.platform.verifiers.number import judge_number
from residency.platform.verifiers.open_answer import judge_open
from residency.platform.verifiers.short import judge_short
from residency.platform.verifiers.yes_no import judge_yes_no

ABSTAINED = None
MODALITIES = ("ct", "mr", "ultrasound", "x-ray")
SIDES = ("left", "upper left", "right")
CELLS = ("neutrophil", "lymphocyte", "red blood cell")


@pytest.mark.parametrize(
    ("options", "answer", "span", "accuracy"),
    [
        (MODALITIES, "mr", "mr", 1),
        (MODALITIES, "mr", " MR . ", 1),
        (MODALITIES, "mr", "b", 1),
        (MODALITIES, "mr", "B.", 1),
        (MODALITIES, "mr", "(b)", 1),
        (MODALITIES, "mr", "( b )", 1),
        (MODALITIES, "mr", "b) mr", 1),
        (MODALITIES, "mr", "b. mr", 1),
        (MODALITIES, "mr", "b mr", 1),
        (MODALITIES, "mr", "the answer is b", 1),
        (MODALITIES, "mr", "answer: (B) mr", 1),
        (MODALITIES, "mr", "option b", 1),
        (MODALITIES, "mr", "it is a mr image", 1),
        (MODALITIES, "mr", "not ct but mr", 1),
        (MODALITIES, "x-ray", "x - ray", 1),
        (MODALITIES, "x-ray", "X‑ray", 1),  # non-breaking hyphen
        (MODALITIES, "ct", "a", 1),
        (MODALITIES, "ct", "\uff21", 1),  # full-width A
        (CELLS, "neutrophil", "neutrophils", 1),
        (CELLS, "red blood cell", "red  blood\ncell", 1),
        (SIDES, "upper left", "upper left", 1),
        (SIDES, "left", "the left side", 1),
        (("2", "3"), "2", "2", 1),
        (("b", "a"), "b", "b", 1),  # options that are letters are read as texts
        (("no lesion", "lesion"), "no lesion", "there is no lesion", 1),
        (("grade i", "grade ii"), "grade ii", "grade ii", 1),
        (MODALITIES, "mr", "ct", 0),
        (MODALITIES, "mr", "a. mr", 0),
        (MODALITIES, "mr", "b. ct", 0),
        (MODALITIES, "mr", "mr or ct", 0),
        (MODALITIES, "mr", "mr, ct", 0),
        (MODALITIES, "mr", "mr ct ultrasound", 0),
        (MODALITIES, "mr", "a or b", 0),
        (MODALITIES, "mr", "a, b", 0),
        (MODALITIES, "mr", "A/B", 0),
        (MODALITIES, "mr", "b and c", 0),
        (MODALITIES, "mr", "h", 0),
        (SIDES, "left", "upper left", 0),
        (SIDES, "upper left", "left", 0),
        (("no lesion", "lesion"), "lesion", "no lesion", 0),
        (("grade i", "grade ii"), "grade i", "grade ii", 0),
        (MODALITIES, "mr", "", ABSTAINED),
        (MODALITIES, "mr", "...", ABSTAINED),
        (MODALITIES, "mr", "i do not know", ABSTAINED),
        (MODALITIES, "mr", "mrs", ABSTAINED),
        (MODALITIES, "mr", "not mr", ABSTAINED),
        (MODALITIES, "mr", "non-mr", ABSTAINED),
        (MODALITIES, "ct", "a lesion", ABSTAINED),
        (MODALITIES, "mr", "vitamin b lack", ABSTAINED),
        (("benign", "malignant"), "malignant", "not malignant", ABSTAINED),
        (("2", "3"), "2", "2.5", ABSTAINED),
        (("2", "3"), "2", "-2", ABSTAINED),
    ],
)
def test_choice(options: tuple[str, ...], answer: str, span: str, accuracy: float | None) -> None:
    assert judge_choice(answer, options, span).accuracy == accuracy


@pytest.mark.parametrize(
    ("answer", "span", "accuracy"),
    [
        ("yes", "yes", 1),
        ("yes", "Yes.", 1),
        ("yes", "YES , there is", 1),
        ("yes", "yes, there is no other lesion", 1),
        ("yes", "true", 1),
        ("yes", "是", 1),
        ("no", "no", 1),
        ("no", "No!", 1),
        ("no", "no, it is normal", 1),
        ("no", "no lesion", 1),
        ("no", "there is no visible lesion", 1),
        ("no", "the answer is no.", 1),
        ("no", "否", 1),
        ("no", "yes", 0),
        ("yes", "no", 0),
        ("yes", "yes or no", 0),
        ("no", "yes, no", 0),
        ("no", "no. yes.", 0),
        ("yes", "there is no lesion", 0),
        ("no", "normal", ABSTAINED),
        ("no", "nothing", ABSTAINED),
        ("no", "none", ABSTAINED),
        ("no", "no idea", ABSTAINED),
        ("no", "i do not know", ABSTAINED),
        ("no", "north", ABSTAINED),
        ("no", "no fracture", ABSTAINED),
        ("yes", "eyes", ABSTAINED),
        ("yes", "yesterday", ABSTAINED),
        ("yes", "not yes", ABSTAINED),
        ("yes", "", ABSTAINED),
        ("no", "non-no", ABSTAINED),
    ],
)
def test_yes_no(answer: str, span: str, accuracy: float | None) -> None:
    assert judge_yes_no(answer, "is a lesion present in this picture?", span).accuracy == accuracy


@pytest.mark.parametrize(
    ("answer", "span", "accuracy"),
    [
        ("x-ray", "X ray", 1),
        ("x-ray", "radiograph", 1),
        ("pulmonary nodules", "Pulmonary nodule.", 1),
        ("tumor", "the tumour", 1),
        ("left lung", "the left lung", 1),
        ("left lung", "it is the left lung", 1),
        ("mri", "magnetic resonance imaging", 1),
        ("heart", "cardium", 1),  # a synonym that the dataset gives
        ("left lung", "right lung", 0),
        ("left lung", "lung", 0),
        ("left lung", "left lung and right lung", 0),
        ("mass", "mas", 0),
        ("pneumonia", "no pneumonia", 0),
        ("heart", "", ABSTAINED),
        ("heart", " . ", ABSTAINED),
    ],
)
def test_short(answer: str, span: str, accuracy: float | None) -> None:
    assert judge_short(answer, ["cardium"] if answer == "heart" else [], span).accuracy == accuracy


@pytest.mark.parametrize(
    ("answer", "span", "accuracy"),
    [
        ("3", "3", 1),
        ("3", "3.0", 1),
        ("3", "three", 1),
        ("3", "there are 3 lesions", 1),
        ("3", "3 , all of them on the left", 1),
        ("-5", "- 5", 1),
        ("2.5", "2 . 5", 1),
        ("2.5", "2.51", 1),
        ("1500", "1,500", 1),
        ("1500", "1.5e3", 1),
        ("500 mg", "500 mg", 1),
        ("500 mg", "500mg", 1),
        ("500 mg", "0.5 g", 1),
        ("500 mg", "500 mg (0.5 g)", 1),
        ("500 mg", "2 x 250 mg = 500 mg", 1),
        ("500 mg", "500", 1),
        ("500 mcg", "0.5 mg", 1),
        ("500 mcg", "500 µg", 1),
        ("500 mcg", "500 μg", 1),  # Greek mu, not the micro sign
        ("10 ml", "10 cc", 1),
        ("2 tablets", "2 tablet", 1),
        ("60 ml/h", "1 ml/min", 1),
        ("60 ml/h", "60 ml / h", 1),
        ("3", "4", 0),
        ("3", "3.4", 0),
        ("3", "3 or 4", 0),
        ("3", "-3", 0),
        ("3", "33", 0),
        ("2.5", "2.6", 0),
        ("500 mg", "500 mcg", 0),
        ("500 mcg", "500 mg", 0),
        ("500 mg", "500 ml", 0),
        ("500 mg", "250 mg 2 times", 0),
        ("2 tablets", "2 drops", 0),
        ("2 tablets", "2 mg", 0),
        ("60 ml/h", "60 ml/min", 0),
        ("3", "1e999", 0),
        ("3", "none", ABSTAINED),
        ("3", "", ABSTAINED),
        ("3", "t2", ABSTAINED),
    ],
)
def test_number(answer: str, span: str, accuracy: float | None) -> None:
    assert judge_number(answer, None, span).accuracy == accuracy


def test_number_tolerance_of_the_dataset() -> None:
    assert judge_number("100 mg", 0.1, "109 mg").accuracy == 1
    assert judge_number("100 mg", 0.1, "111 mg").accuracy == 0


@pytest.mark.parametrize(
    ("answer", "span", "accuracy"),
    [
        ("[[0.1, 0.1, 0.5, 0.5]]", "[[0.1, 0.1, 0.5, 0.5]]", 1),
        ("[[0.1, 0.1, 0.5, 0.5]]", "[0.1,0.1,0.5,0.5]", 1),
        ("[[0.1, 0.1, 0.5, 0.5]]", "[ [ 0 . 1 , 0 . 1 , 0 . 5 , 0 . 4 ] ]", 1),
        ("[[0, 0, 0.2, 0.2], [0.5, 0.5, 1, 1]]", "[[0.5, 0.5, 1, 1], [0, 0, 0.2, 0.2]]", 1),
        ("[[0, 0, 0.2, 0.2], [0.5, 0.5, 1, 1]]", "[[0.5, 0.5, 1, 1]]", 1),  # mean IoU is exactly 0.5
        ("[]", "[]", 1),
        ("[]", "[[0, 0, 1, 1]]", 0),
        ("[[0, 0, 1, 1]]", "[]", 0),
        ("[[0.1, 0.1, 0.5, 0.5]]", "[[0.5, 0.5, 0.9, 0.9]]", 0),
        ("[[0.1, 0.1, 0.5, 0.5]]", "[[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 1, 1], [0, 0.6, 0.1, 1]]", 0),
        ("[[0.1, 0.1, 0.5, 0.5]]", "[[0.5, 0.5, 0.1, 0.1]]", 0),
        ("[[0.1, 0.1, 0.5, 0.5]]", "[[10, 10, 50, 50]]", 0),
        ("[[0.1, 0.1, 0.5, 0.5]]", "[[NaN, 0.1, 0.5, 0.5]]", 0),
        ("[[0.1, 0.1, 0.5, 0.5]]", '[["0.1", 0.1, 0.5, 0.5]]', 0),
        ("[[0.1, 0.1, 0.5, 0.5]]", "upper left", ABSTAINED),
        ("[[0.1, 0.1, 0.5, 0.5]]", "[[0.1, 0.1", ABSTAINED),
        ("[[0.1, 0.1, 0.5, 0.5]]", "[" * 4000 + "]" * 4000, ABSTAINED),
    ],
)
def test_box(answer: str, span: str, accuracy: float | None) -> None:
    assert judge_box(answer, span).accuracy == accuracy


def test_pairing_of_boxes_is_optimal_where_the_greedy_one_is_not() -> None:
    # By hand, unit height: IoU(a, A) = 0.8/1.2, IoU(a, B) = 0.6/1.4, IoU(b, A) = 0.6/1.0, IoU(b, B) = 0.
    a, b = (0.2, 0.0, 0.7, 1.0), (0.0, 0.0, 0.4, 1.0)
    first, second = (0.1, 0.0, 0.6, 1.0), (0.4, 0.0, 0.9, 1.0)
    crossed = (0.3 / 0.6 + 0.3 / 0.7) / 2  # a with second, b with first
    assert mean_iou((a, b), (first, second)) == pytest.approx(crossed)


@pytest.mark.parametrize(
    ("span", "token_f1", "rouge_l"),
    [("a round grey lesion", 1.0, 1.0), ("lesion round gray", 1.0, 2 / 3), ("round shape", 0.4, 0.4), ("sky", 0, 0)],
)
def test_open(span: str, token_f1: float, rouge_l: float) -> None:
    finding = judge_open("round gray lesion", span)
    assert finding.accuracy == pytest.approx(token_f1)
    assert finding.parts["rouge_l"] == pytest.approx(rouge_l)


def test_answers_that_no_verdict_can_be_given_on() -> None:
    with pytest.raises(DataError, match="none of the options"):
        judge_choice("pet", MODALITIES, "ct")
    with pytest.raises(DataError, match="options"):
        judge_choice("pet", (), "ct")
    with pytest.raises(DataError, match="yes or no"):
        judge_yes_no("maybe", "is it?", "yes")
    with pytest.raises(DataError, match="one number"):
        judge_number("3 or 4", None, "3")
    with pytest.raises(DataError, match="no box"):
        judge_box("[[0, 0, 20, 20]]", "[]")
    with pytest.raises(DataError, match="word"):
        judge_short("?", [], "x")
