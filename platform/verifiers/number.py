"""Numbers: one value with an optional unit, or a range; other units are converted, other dimensions are wrong."""

import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

from residency.platform.errors import DataError
from residency.platform.records import Item
from residency.platform.verifiers.amounts import PERIODS, Amount, amounts
from residency.platform.verifiers.finding import Finding, right_or_wrong
from residency.platform.verifiers.normal_form import bare, normal_form
from residency.platform.verifiers.units import in_unit, known_unit

ROUNDING = 1e-6  # relative: what converting there and back may lose
COUNTING = re.compile(r"\bhow many\b|\bnumber of\b|多少个|几个|几")
NOTHING = re.compile(r"(?:none|nil|zero|no [a-z]+(?: [a-z]+)?)")


class Wanted(NamedTuple):
    """Values from ``low`` to ``high`` are right, ``allowed`` beyond each end; ``strict``: just below it."""

    low: float
    high: float
    unit: str
    allowed: float
    strict: bool
    denied: bool
    label: str
    rate: str


def _range_of(given: Any, item: Item) -> tuple[float, float]:
    if (
        not isinstance(given, list | tuple)
        or len(given) != 2
        or not all(isinstance(x, int | float) and math.isfinite(x) for x in given)
    ):
        raise DataError(f"item {item.id} has the range {given!r}", "two numbers, [low, high]")
    low, high = float(given[0]), float(given[1])
    if low > high:
        raise DataError(f"item {item.id} has the range {given!r}", "low first")
    return low, high


def wanted_of(item: Item) -> Wanted:
    """What the item's answer, tolerance (relative) and range ask for; raises DataError where they are unusable."""
    tolerance, given = item.metadata.get("tolerance"), item.metadata.get("range")
    bounds = None if given is None else _range_of(given, item)
    return _wanted(item.answer, None if tolerance is None else float(tolerance), bounds)


@lru_cache(maxsize=8192)
def _wanted(answer: str, tolerance: float | None, bounds: tuple[float, float] | None) -> Wanted:
    gold = amounts(answer)
    if len(gold) != 1 or not math.isfinite(gold[0].high) or not math.isfinite(gold[0].low):
        raise DataError(f"the answer {answer!r} of a number question", "one number or range with an optional unit")
    low, high, unit, decimals, denied, label, rate = gold[0]
    if bounds is not None:
        low, high = bounds
    size = max(abs(low), abs(high))
    if tolerance is not None:
        return Wanted(low, high, unit, size * tolerance + ROUNDING * size, False, denied, label, rate)
    if low < high:  # the range is the tolerance
        return Wanted(low, high, unit, ROUNDING * size, False, denied, label, rate)
    half_digit = 0.5 * 10.0**-decimals if decimals else 0.0
    return Wanted(low, high, unit, half_digit or ROUNDING * size, half_digit > 0, denied, label, rate)


def _within(value: float, wanted: Wanted) -> bool:
    distance = max(wanted.low - value, value - wanted.high, 0.0)
    if wanted.strict:
        return distance < wanted.allowed * (1 - ROUNDING)
    return distance <= wanted.allowed


def _is_right(amount: Amount, wanted: Wanted, question: str) -> bool:
    if amount.denied != wanted.denied:
        return False
    if amount.rate and amount.rate != wanted.rate and (wanted.rate or not _is_rate_asked(amount.rate, question)):
        return False
    if amount.unit and not wanted.unit and known_unit(amount.unit) and not _is_asked(amount.unit, question):
        return False
    unit, _, period = amount.unit.rpartition("/")
    if not unit or "/" in wanted.unit or not _is_rate_asked(PERIODS.get(period, period), question):
        unit = amount.unit
    for end in (amount.low, amount.high):
        value = in_unit(end, unit, wanted.unit)
        if value is None or not math.isfinite(value) or not _within(value, wanted):
            return False
    return True


@lru_cache(maxsize=8192)
def _is_asked(unit: str, question: str) -> bool:
    """Whether a gold answer without a unit may be given in this one: not where the question counts other things."""
    normal = normal_form(question)
    return COUNTING.search(normal) is None or unit.lower().rstrip("s") in normal


@lru_cache(maxsize=8192)
def _is_rate_asked(rate: str, question: str) -> bool:
    """Whether the question has the rate itself (`the daily dose`), so that an answer may repeat it."""
    asked = normal_form(question)
    return rate in asked or any(PERIODS.get(word) == rate for word in asked.split())


@lru_cache(maxsize=8192)
def _asks_for(label: str, question: str) -> bool:
    asked = normal_form(question)
    return label.split()[0].rstrip("s.") in asked and not (label == "which" and COUNTING.search(asked))


def _shown(amount: Amount) -> str:
    value = f"{amount.low:g}" if amount.low == amount.high else f"{amount.low:g} to {amount.high:g}"
    return f"{'not, or a bound of, ' if amount.denied else ''}{value} {amount.unit}".rstrip()


def judge_number(item: Item, span: str) -> Finding:
    """Without ``metadata["tolerance"]`` a value must agree when it is rounded to the gold's decimals."""
    wanted = wanted_of(item)
    said = tuple(
        amount
        for amount in amounts(span)
        if amount.label in ("", wanted.label) or _asks_for(amount.label, item.question)
    )
    wants = f"{wanted.low:g}{'' if wanted.low == wanted.high else f' to {wanted.high:g}'} {wanted.unit}".rstrip()
    if not said:
        if wanted.low == wanted.high == 0 and not wanted.unit and NOTHING.fullmatch(bare(normal_form(span))):
            return Finding(1.0, f"says none, wanted {wants}")
        return Finding(None, "no number said")
    right = [_is_right(amount, wanted, item.question) for amount in said]
    shown = ", ".join(map(_shown, said[:5]))
    if any(right) and not all(right):
        rest = [amount for amount, is_right in zip(said, right, strict=True) if not is_right]
        if (
            all(amount.denied for amount in rest)
            and not wanted.denied
            and not any(_is_right(amount._replace(denied=False), wanted, item.question) for amount in rest)
        ):
            return Finding(1.0, f"says {shown}, wanted {wants}; the others are denied")
        return Finding(0.0, f"several numbers said: {shown}")  # one value twice, in two units, is no contradiction
    return right_or_wrong(all(right), f"says {shown}, wanted {wants}")
