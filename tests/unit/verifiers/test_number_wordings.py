"""Answers of the kind number as models word them: what must be accepted, and what must not."""

import pytest

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.verifiers.rules import judge_answer


def item(answer: str, question: str, options: tuple[str, ...] = (), metadata: dict[str, object] | None = None) -> Item:
    return Item(
        id="i", content_key="c", source="s", split=Split.HELD_OUT, licence="MIT", cluster="k", question=question,
        options=options, answer=answer, answer_kind=AnswerKind.NUMBER, family=Family.MEDICAL_MULTIMODAL,
        metadata=metadata or {},
    )  # fmt: skip


ITEM_1 = item("3.5 cm", "What is the diameter?")
ITEM_2 = item("12 mg", "dose?")
ITEM_3 = item("45 %", "EF?")
ITEM_4 = item("1500 mL", "vol?")
ITEM_5 = item("3-5 mm", "size?")
ITEM_6 = item("100 mg", "dose?", metadata={"tolerance": 0.05})
ITEM_7 = item("4", "hb?", metadata={"range": [3, 5]})
ITEM_8 = item("7", "How many nodules are seen?")
ITEM_9 = item("0", "How many fractures?")
ITEM_10 = item("37 °C", "temp?")
ITEM_11 = item("120 mmHg", "bp?")
ITEM_12 = item("72 bpm", "hr?")
ITEM_13 = item("5 mmol/L", "k?")
ITEM_14 = item("12 years", "age?")
ITEM_15 = item("4.5 x 10^9/L", "wbc")
ITEM_16 = item("90 mL/min/1.73 m2", "gfr")

RIGHT = [
    (ITEM_1, [
        "3.5 cm", "3.5cm", "3.50 cm", "35 mm", "0.035 m", "3.5", "3.5 centimeters", "3.5 centimetres",
        "about 3.5 cm", "The diameter is 3.5 cm.", "approximately 35 mm", "three point five centimeters", "3,5 cm",
        "3.5 cm (35 mm)", '$3.5\\,\\text{cm}$', "**3.5 cm**", "3.5厘米", "3.5 公分", "35毫米", "~3.5 cm", "3.5-cm",
        "The answer is 35 mm", "three and a half centimetres", "35.0 mm", "3 1/2 cm",
    ]),
    (ITEM_2, [
        "12 mg", "12mg", "12 milligrams", "0.012 g", "12000 mcg", "12,000 µg", "twelve milligrams", "12.0 mg",
        "12", "12 MG", "12 Mg", "0.2 mg/kg x 60 kg = 12 mg", "12 mg (0.2 mg/kg × 60 kg)", "12 毫克", "十二毫克",
        "12 mg of aspirin", "1.2 x 10^1 mg", "1.2×10¹ mg",
    ]),
    (ITEM_3, [
        "45%", "45 percent", "45 per cent", "45", "百分之45", "forty-five percent",
    ]),
    (ITEM_4, [
        "1,500 mL", "1.5 L", "1 500 ml", "1.5 litres", "1500 cc", "15 dl", "fifteen hundred ml",
    ]),
    (ITEM_5, [
        "3-5 mm", "4 mm", "3 to 5 mm", "between 3 and 5 mm", "0.4 cm", "3–5 mm", "3mm-5mm",
    ]),
    (ITEM_6, [
        "104 mg", "95 mg", "98-102 mg", "0.1 g",
    ]),
    (ITEM_7, [
        "3", "5",
    ]),
    (ITEM_8, [
        "7", "seven", "7 nodules", "There are seven nodules.", "7.0", "about 7", "7个", "七个",
    ]),
    (ITEM_9, [
        "none", "0", "zero", "no fractures",
    ]),
    (ITEM_10, [
        "37 degrees Celsius", "37°C", "98.6 °F", "37", "37 C", "310.15 K", "37 摄氏度", "98.6 degrees Fahrenheit",
    ]),
    (ITEM_11, [
        "120 mm Hg", "120mmHg", "120", "120 毫米汞柱",
    ]),
    (ITEM_12, [
        "72 beats per minute", "72 beats/min", "72 bpm", "72 次/分",
    ]),
    (ITEM_13, [
        "5 mmol/l", "5 mM", "5 mmol per litre", "0.005 mol/L", "5000 µmol/L",
    ]),
    (ITEM_14, [
        "12 years old", "12-year-old", "twelve years", "144 months", "12岁",
    ]),
    (ITEM_15, [
        "4.5×10⁹/L", "4.5 x 10^9 /L", "4.5e9/L", "4500/µL",
    ]),
    (ITEM_16, [
        "90 mL/min/1.73m²", "90 ml/min", "90",
    ]),
]  # fmt: skip
WRONG = [
    (ITEM_3, [
        "0.45", "45 mg", "40-50%", "45.5%",
    ]),
    (ITEM_4, [
        "1.500 ml",
    ]),
    (ITEM_5, [
        "6 mm", "2-5 mm", "4 cm",
    ]),
    (ITEM_6, [
        "106 mg", "90-102 mg",
    ]),
    (ITEM_7, [
        "5.1", "2.9",
    ]),
    (ITEM_8, [
        "7 mg", "7%", "77", "7 or 8", "-7", "more than 7", "7+", "at least seven",
    ]),
    (ITEM_9, [
        "1",
    ]),
    (ITEM_10, [
        "37 °F",
    ]),
    (ITEM_11, [
        "120/80 mmHg", "120 cmH2O",
    ]),
    (ITEM_12, [
        "72 mmHg", "72 breaths per minute",
    ]),
    (ITEM_13, [
        "5 mg/dL", "5 mol/L", "5 mm", "5 mEq/L",
    ]),
    (ITEM_14, [
        "12 months",
    ]),
    (ITEM_15, [
        "4.5 x 10^6/L",
    ]),
]  # fmt: skip
NOT_RIGHT = [
    (ITEM_1, [
        "3.5 mm", "35 cm", "3.6 cm", "35", "3.5 kg", "3-4 cm", "3 to 5 cm", "3.5 or 4 cm", "3.5 x 4 cm", "-3.5 cm",
        ">3.5 cm", "less than 3.5 cm", "at least 3.5 cm", "not 3.5 cm", "3.5 inches", "3.5 cm and 4 cm", "35 µm",
        "3.5 ± 1 cm", "3.5 cm2", "3.5 cm³", "no", "T3.5", "more than 3.5 cm", "3.5e1 cm", "up to 3.5 cm", "3.5%",
    ]),
    (ITEM_2, [
        "12 mcg", "12 g", "12 ml", "12 mg/kg", "12 mg/day", "12 mg per kg", "12-15 mg", "12 mg or 15 mg", "120 mg",
        "1.2 mg", "12 µg", "12 units", "12 tablets", "twelve or thirteen mg", "12 mmol", "12th", "12 %",
    ]),
    (ITEM_8, [
        "٧", "VII",
    ]),
    (ITEM_9, [
        "no idea",
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
