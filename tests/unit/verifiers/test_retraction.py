"""The right words in an answer that does not give them: others' words, taken back, refused, conditional; and twins."""

from dataclasses import replace

import pytest

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.verifiers.rules import judge_answer


def item(kind: AnswerKind, question: str, answer: str, options: tuple[str, ...] = ()) -> Item:
    return Item(
        id="i", content_key="c", source="s", split=Split.HELD_OUT, licence="MIT", cluster="k", question=question,
        options=options, answer=answer, answer_kind=kind, family=Family.MEDICAL_MULTIMODAL,
    )  # fmt: skip


MODALITY = item(AnswerKind.CHOICE, "Which modality?", "MRI", ("CT", "MRI", "Ultrasound", "X-ray"))
FRACTURE = item(AnswerKind.YES_NO, "Is there a rib fracture?", "yes")
NO_FRACTURE = replace(FRACTURE, answer="no")
FATTY = item(AnswerKind.YES_NO, "Is the liver fatty?", "yes")
DOSE = item(AnswerKind.NUMBER, "What dose is given?", "12 mg")
COUNT = item(AnswerKind.NUMBER, "How many nodules are there?", "7")
MINUTES = item(AnswerKind.NUMBER, "How long did it take?", "90 min")
FINDING = item(AnswerKind.SHORT, "What is shown?", "pneumothorax")
TWINS = item(AnswerKind.CHOICE, "Which modality?", "ct.", ("CT", "ct.", "MRI"))

NOT_GIVEN = [
    (MODALITY, [
        "MRI is a distractor.", "B? No.", "B? Definitely not.", "Every option but MRI.", "Each of these but B",
        "The patient refused MRI.", "MRI was cancelled", "Some might say MRI.", "Students often pick B.",
        "MRI is a common mistake.", "B is the trap.", "B. Just kidding.", "MRI... not!", "MRI (wrong)",
        "Hardly MRI.", "Far from MRI.", "MRI is contraindicated.", "It looks like MRI but isn't.",
        "With the exception of MRI", "mistaken for MRI", "B. That is wrong.", "MRI is what a novice would say.",
        "MRI would be right if it were T2 weighted.", "Unless it is MRI", "I first thought MRI.",
    ]),
    (FRACTURE, [
        "Yes is what a resident would say, wrongly.", "One might say yes if the window were different.",
        "There is hardly a rib fracture.", "Yes? Hardly.", "Yes. Just kidding.", "The opposite of yes.",
        "A rib fracture was looked for.", "The referrer suspected a rib fracture.",
    ]),
    (NO_FRACTURE, [
        "One cannot miss a rib fracture.", "No. Scratch that.", "Students would say no.", "Yes? No?",
    ]),
    (DOSE, [
        "12 mg every hour", "12 mg twice daily", "12 mg an hour", "12 mg b.i.d.", "hardly 12 mg", "a tenth of 12 mg",
        "12 mg doubled", "12 mg too much", "12 mg if the kidneys work", "12 mg unless renal failure", "12 mg? No.",
        "The patient refused 12 mg", "would have been 12 mg", "12 mg is a distractor", "12 mg, just kidding",
    ]),
    (COUNT, [
        "the 7th rib is broken", "rib 7", "on day 7", "7 p.m.", "7 o'clock", "7 March", "7 more", "7 and a half",
    ]),
    (FINDING, ["I see no pneumothorax", "I cannot see a pneumothorax", "hardly a pneumothorax"]),
    (TWINS, ["C", "MRI", "B or C"]),
]  # fmt: skip
GIVEN = [
    (MODALITY, [
        "MRI is what the image shows.", "B. The others are distractors.", "MRI, and CT is a distractor.",
        "A novice would say CT, but it is MRI.", "If I had to choose, MRI.", "I would say MRI.", "MRI? Yes.",
        "MRI is no mistake.", "No doubt MRI.", "The findings suggest MRI.", "B, since the patient refused CT.",
    ]),
    (replace(MODALITY, question="Which did the patient refuse?"), ["The patient refused MRI."]),
    (replace(MODALITY, question="Which is contraindicated?"), ["MRI is contraindicated."]),
    (FRACTURE, ["Certainly.", "Yes, barely visible."]),
    (NO_FRACTURE, ["I can't find a rib fracture.", "We couldn't see any rib fracture.", "Absolutely not."]),
    (FATTY, ["Indeed it is.", "It is indeed."]),
    (replace(FATTY, answer="no"), ["It isn't.", "It fails to look fatty.", "The liver is not fatty."]),
    (DOSE, ["nearly 12 mg", "Dose: 12 mg"]),
    (replace(DOSE, question="What is the daily dose?"), ["12 mg daily", "12 mg per day", "12 mg every day"]),
    (replace(DOSE, answer="12 mg daily"), ["12 mg", "12 mg every day", "12 mg a day"]),
    (MINUTES, ["an hour and a half", "1 hour 30 minutes", "1 h 30 min", "1.5 hours", "one and a half hours"]),
    (replace(MINUTES, answer="30 min"), ["half an hour", "0.5 h"]),
    (item(AnswerKind.NUMBER, "Which rib is broken?", "7"), ["the 7th rib", "Rib 7"]),
    (item(AnswerKind.NUMBER, "At what time?", "7 pm"), ["7 p.m.", "7 pm"]),
    (FINDING, ["I see a pneumothorax.", "We can see a pneumothorax", "It looks like a pneumothorax."]),
    (TWINS, ["A", "B", "CT", "B. CT", "A. ct", "A or B", "The answer is A because bone is bright."]),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "spans"), NOT_GIVEN)
def test_an_answer_that_is_named_and_not_given_is_not_accepted(asked: Item, spans: list[str]) -> None:
    assert [span for span in spans if judge_answer(asked, span).accuracy == 1] == []


@pytest.mark.parametrize(("asked", "spans"), GIVEN)
def test_an_answer_beside_such_words_is_accepted(asked: Item, spans: list[str]) -> None:
    assert [span for span in spans if judge_answer(asked, span).accuracy != 1] == []


def test_a_wrong_time_of_the_day_is_no_right_one() -> None:
    assert judge_answer(item(AnswerKind.NUMBER, "At what time?", "7 pm"), "7 am").accuracy == 0
