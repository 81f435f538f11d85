"""What holds for any answer: tried on answers that hypothesis makes up, and shrinks where a rule breaks."""

import json
import random
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status, Verdict
from residency.platform.verifiers.accepting import accept
from residency.platform.verifiers.judging import judge

# Exact factors to one unit of the dimension, independent of the library that the rules convert with.
UNITS = {
    "m": {"µm": Fraction(1, 10**6), "mm": Fraction(1, 1000), "cm": Fraction(1, 100), "m": Fraction(1)},
    "g": {"mcg": Fraction(1, 10**6), "mg": Fraction(1, 1000), "g": Fraction(1), "kg": Fraction(1000)},
    "l": {"µL": Fraction(1, 10**6), "mL": Fraction(1, 1000), "dL": Fraction(1, 10), "L": Fraction(1)},
    "s": {"ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600)},
}
FORMATS = {
    "{}": PromptMode.DIRECT,
    "\\boxed{{{}}}": PromptMode.DIRECT,
    "<think>I look at the picture.</think><answer>{}</answer>": PromptMode.THINK,
    "<think>I look at the picture.</think> So it is \\boxed{{{}}}": PromptMode.THINK,
}
JOINS = (" or ", " and ", ", ", " / ", "; ", " & ", "\n", ", possibly ", " | ")
ODD_CHARACTERS = "aAbB.,:;()[]{}<>/\\-–—+=*^_%°µ\"'0123456789 \n\t\u200b\u00ad\u0301\u2028\ufeffАВСⅣ½²٣是否选答案"
FRAGMENTS = (
    "<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "\\text{", "yes", "no", "not", "A", "B", "(C)",
    "or", "left", "1e999", "3.5 cm", "-", "12 mg", "½", "[[0.1, 0.1, 0.5, 0.5]]", "[", "]", "NaN", "是", "否", "没有",
    "答案是", "the answer is", "10**10", "%", "0x1F", "1/0", "9" * 400, "[" * 400, "1,000,000", "٣", "mm/h",
    "kg m^2 / s^2", "degC", "\x00", "\ud7ff", "\U0001f600", "İ", "ß",
)  # fmt: skip


def item_of(kind: AnswerKind, answer: str, options: tuple[str, ...] = (), **metadata: Any) -> Item:
    return Item(
        id=kind.value,
        content_key=kind.value,
        source="test",
        split=Split.TUNE,
        licence="none",
        cluster=kind.value,
        question="Is there a nodule in the left lung?" if kind is AnswerKind.YES_NO else "What is shown?",
        options=options,
        answer=answer,
        answer_kind=kind,
        family=Family.MEDICAL_MULTIMODAL,
        metadata=metadata,
    )


OPTIONS = ("CT", "MRI", "Ultrasound", "Left upper lobe", "Upper lobe")
ITEMS = (
    item_of(AnswerKind.CHOICE, "MRI", OPTIONS),
    item_of(AnswerKind.CHOICE, "Left upper lobe", OPTIONS),
    item_of(AnswerKind.CHOICE, "左肺", ("左肺", "右肺", "双肺")),
    item_of(AnswerKind.YES_NO, "yes"),
    item_of(AnswerKind.YES_NO, "No"),
    item_of(AnswerKind.YES_NO, "否"),
    item_of(AnswerKind.SHORT, "left pleural effusion"),
    item_of(AnswerKind.SHORT, "气胸"),
    item_of(AnswerKind.NUMBER, "3.5 cm"),
    item_of(AnswerKind.NUMBER, "7"),
    item_of(AnswerKind.NUMBER, "45 %", tolerance=0.05),
    item_of(AnswerKind.NUMBER, "3-5 mm", range=[3.0, 5.0]),
    item_of(AnswerKind.BOX, "[[0.1, 0.2, 0.4, 0.6], [0.5, 0.5, 0.9, 0.8]]"),
    item_of(AnswerKind.OPEN, "The heart is enlarged and the lungs are clear."),
    item_of(AnswerKind.OPEN, "左肺上叶可见一个结节。"),
)
items = st.sampled_from(ITEMS)
modes = st.sampled_from(PromptMode)
formats = st.sampled_from(sorted(FORMATS.items()))
texts = st.one_of(
    st.text(max_size=200),
    st.text(alphabet=ODD_CHARACTERS, max_size=200),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(alphabet=ODD_CHARACTERS, max_size=4)), max_size=25).map(
        " ".join
    ),
    st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join),
)


def verdict_on(item: Item, text: str, mode: PromptMode) -> Verdict:
    return judge(item, "trace", text, mode, RewardConfig())


def accepted(item: Item, text: str, mode: PromptMode = PromptMode.DIRECT) -> bool:
    return accept(verdict_on(item, text, mode))


@settings(max_examples=600)
@given(items, texts, modes)
def test_no_text_makes_a_rule_raise_and_scores_stay_in_bounds(item: Item, text: str, mode: PromptMode) -> None:
    verdict = verdict_on(item, text, mode)
    assert verdict.status in (Status.SCORED, Status.ABSTAINED)
    assert verdict.score is not None
    assert 0 <= verdict.score <= 1
    assert all(0 <= part <= 1 for part in verdict.parts.values())
    assert verdict == verdict_on(item, text, mode)  # also when it comes from a cache


@settings(max_examples=50)
@given(items, st.sampled_from(FRAGMENTS), st.integers(1, 200_000), modes)
def test_long_texts_are_judged_too(item: Item, fragment: str, times: int, mode: PromptMode) -> None:
    text = (fragment + " ") * min(times, 1_000_000 // len(fragment))
    assert 0 <= (verdict_on(item, text, mode).score or 0.0) <= 1


@given(items, formats)
def test_the_gold_answer_is_accepted_in_every_format(item: Item, form: tuple[str, PromptMode]) -> None:
    shape, mode = form
    assert accepted(item, shape.format(item.answer), mode)
    verdict = verdict_on(item, shape.format(item.answer), mode)
    assert verdict.parts["format"] == 1
    assert verdict.score == 1


@given(
    items,
    st.text(alphabet=" \n\t", max_size=5),
    st.text(alphabet=" \n\t", max_size=5),
    st.sampled_from("UuTs"),
    formats,
)
def test_case_and_outer_white_space_do_not_matter(
    item: Item, before: str, after: str, case: str, form: tuple[str, PromptMode]
) -> None:
    shape, mode = form
    changed = {"U": str.upper, "u": str.lower, "T": str.title, "s": str.swapcase}[case](item.answer)
    said = item.answer if item.answer_kind is AnswerKind.NUMBER else changed  # a unit's case has a meaning
    assert accepted(item, before + shape.format(before + said + after) + after, mode)


@st.composite
def choices(draw: st.DrawFn) -> tuple[tuple[str, ...], int]:
    """Two to five options and the index of the right one."""
    names = (
        "CT", "MRI", "ultrasound", "left lung", "right lung", "lung", "benign", "malignant", "pneumonia", "12 mm",
        "grade II", "no lesion", "气胸", "肺炎", "vitamin C", "red blood cell", "T2-weighted", "both lungs",
        "aortic valve",
    )  # fmt: skip
    options = tuple(draw(st.lists(st.sampled_from(names), min_size=2, max_size=5, unique=True)))
    return options, draw(st.integers(0, len(options) - 1))


@settings(max_examples=300)
@given(choices(), st.data())
def test_a_second_option_never_turns_a_wrong_choice_into_a_right_one(
    choice: tuple[tuple[str, ...], int], data: st.DataObject
) -> None:
    options, right = choice
    item = item_of(AnswerKind.CHOICE, options[right], options)
    wrong = data.draw(st.sampled_from([i for i in range(len(options)) if i != right]))

    def named(i: int) -> str:
        letter = "ABCDE"[i]
        return data.draw(st.sampled_from((letter, f"({letter})", options[i], f"{letter}. {options[i]}")))

    first = named(wrong)
    assert not accepted(item, first)
    assert accepted(item, named(right))
    both = [first, named(right)]
    if data.draw(st.booleans()):
        both.reverse()
    text = data.draw(st.sampled_from(JOINS)).join(both)
    assert not accepted(item, text)
    assert not accepted(item, f"<think>Hm.</think><answer>{text}</answer>", PromptMode.THINK)


@given(
    st.sampled_from(("yes", "no")), st.sampled_from(JOINS), st.sampled_from(("{}", "The answer is {}.", "Answer: {}"))
)
def test_yes_and_no_together_are_never_right(gold: str, join: str, shape: str) -> None:
    item = item_of(AnswerKind.YES_NO, gold)
    assert accepted(item, shape.format(gold))
    for text in (f"yes{join}no", f"No{join}yes"):
        assert not accepted(item, shape.format(text))


@st.composite
def amounts(draw: st.DrawFn) -> tuple[int, int, str, str, str]:
    """Digits, decimals, the gold's unit and another of its dimension, and one of another dimension."""
    dimension, foreign = draw(st.permutations(sorted(UNITS)))[:2]
    unit, other = draw(st.permutations(sorted(UNITS[dimension])))[:2]
    return (
        draw(st.integers(1, 9999)),
        draw(st.integers(0, 2)),
        unit,
        other,
        draw(st.sampled_from(sorted(UNITS[foreign]))),
    )


def decimal(value: Fraction) -> str | None:
    """The value as a plain decimal number, exactly; None where that takes more than nine digits after the point."""
    for digits in range(10):
        scaled = value * 10**digits
        if scaled.denominator == 1:
            whole = str(scaled.numerator).rjust(digits + 1, "0")
            return f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole
    return None


@settings(max_examples=200, suppress_health_check=[HealthCheck.filter_too_much])
@given(amounts())
def test_a_number_is_judged_the_same_after_exact_conversion(amount: tuple[int, int, str, str, str]) -> None:
    digits, decimals, unit, other, foreign = amount
    value = Fraction(digits, 10**decimals)
    factors = next(units for units in UNITS.values() if unit in units)
    gold, wrong = decimal(value), decimal(value * 3)
    converted, wrong_converted = (decimal(v * factors[unit] / factors[other]) for v in (value, value * 3))
    assume(converted is not None and wrong_converted is not None)
    item = item_of(AnswerKind.NUMBER, f"{gold} {unit}")
    assert accepted(item, f"{gold} {unit}")
    assert accepted(item, f"{converted} {other}")
    assert not accepted(item, f"{wrong} {unit}")
    assert not accepted(item, f"{wrong_converted} {other}")
    assert not accepted(item, f"{gold} {other}")
    assert not accepted(item, f"{gold} {foreign}")
    assert not accepted(item, f"{gold} {unit} or {wrong} {unit}")


@st.composite
def boxes(draw: st.DrawFn) -> list[list[float]]:
    corner = st.integers(0, 900)
    result: list[list[float]] = []
    for _ in range(draw(st.integers(1, 5))):
        x, y = draw(corner), draw(corner)
        width, height = draw(st.integers(20, 1000 - x)), draw(st.integers(20, 1000 - y))
        result.append([x / 1000, y / 1000, (x + width) / 1000, (y + height) / 1000])
    return result


@settings(max_examples=200)
@given(boxes(), boxes(), st.randoms(use_true_random=False))
def test_the_order_of_boxes_does_not_matter(
    gold: list[list[float]], said: list[list[float]], order: random.Random
) -> None:
    item = item_of(AnswerKind.BOX, json.dumps(gold))
    assert accepted(item, json.dumps(order.sample(gold, len(gold))))
    verdict = verdict_on(item, json.dumps(said), PromptMode.DIRECT)
    permuted = item_of(AnswerKind.BOX, json.dumps(order.sample(gold, len(gold))))
    again = verdict_on(permuted, json.dumps(order.sample(said, len(said))), PromptMode.DIRECT)
    assert accept(again) == accept(verdict)
    assert abs(again.parts["iou"] - verdict.parts["iou"]) < 1e-9
    swapped = verdict_on(item_of(AnswerKind.BOX, json.dumps(said)), json.dumps(gold), PromptMode.DIRECT)
    assert abs(swapped.parts["iou"] - verdict.parts["iou"]) < 1e-9


@settings(max_examples=50)
@given(st.lists(st.tuples(items, texts, modes), min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_verdicts_do_not_depend_on_the_order_of_a_batch(
    batch: list[tuple[Item, str, PromptMode]], order: random.Random
) -> None:
    verdicts = [verdict_on(*each) for each in batch]
    places = list(range(len(batch)))
    order.shuffle(places)
    again = {place: verdict_on(*batch[place]) for place in places}
    assert [again[place] for place in range(len(batch))] == verdicts
