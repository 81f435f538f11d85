"""Numbers: one value with an optional unit; other units are converted (pint), other dimensions are wrong."""

import math
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from residency.platform.errors import DataError
from residency.platform.verifiers.finding import Finding, right_or_wrong
from residency.platform.verifiers.normal_form import singular

if TYPE_CHECKING:
    import pint

WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen twenty"
)
WORD_VALUES = {word: float(value) for value, word in enumerate(WORDS.split())}
UNIT = r"(?:%|°[CF]|[A-Za-zµμ]{1,16}(?:\^?[23])?)"
NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>-|^- )?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d{1,40})?|\d{1,40}(?:\.\d{1,40}| \. \d{1,40})?|\.\d{1,40})"
    r"(?P<power>[eE][+-]?\d{1,3})?(?!\d)"
    rf"(?: ?-?(?P<unit>{UNIT}(?: ?/ ?{UNIT}){{0,2}}))?"
)
WORD_NUMBER = re.compile(rf"(?<![\w-])(?:{'|'.join(sorted(WORD_VALUES, key=len, reverse=True))})(?![\w-])", re.I)
ALIASES = {"mcg": "microgram", "ug": "microgram", "cc": "milliliter", "%": "percent", "hr": "hour", "hrs": "hour"}
NOT_UNITS = frozenset(["and", "or", "to", "the", "in", "of", "is", "are", "per", "at", "on", "for", "with"])
CONVERSION_LOSS = 1e-6  # relative


class Amount(NamedTuple):
    value: float
    unit: str  # as written, without spaces; empty where there is none
    decimals: int


@cache
def registry() -> "pint.UnitRegistry[float]":
    """pint's units and the international unit; imported late because it costs half a second."""
    import pint

    units: pint.UnitRegistry[float] = pint.UnitRegistry()
    units.define("international_unit = [international_unit] = iu = IU")
    return units


@lru_cache(maxsize=4096)
def known_unit(written: str) -> str | None:
    """pint's name of a unit, or None where it knows none by this name (`tablets`, `lesions`)."""
    import pint

    name = "/".join(ALIASES.get(part.casefold(), part) for part in written.replace("μ", "µ").split("/"))
    for spelling in (name, name.lower()):
        try:
            return str(registry().parse_units(spelling))
        except (pint.PintError, ValueError, TypeError):  # what pint raises for names it cannot read
            continue
    return None


@lru_cache(maxsize=8192)
def amounts(text: str) -> tuple[Amount, ...]:
    """Every number of the text with the unit that follows it; after an `=` only what stands behind the last one."""
    tail = " ".join(text.replace("−", "-").split()).rpartition("=")[2].strip()
    found: list[Amount] = []
    for match in NUMBER.finditer(tail):
        digits = match["digits"].replace(",", "").replace(" ", "")
        value = float(digits + (match["power"] or "")) * (-1 if match["sign"] else 1)
        unit = (match["unit"] or "").replace(" ", "")
        if unit.casefold() in NOT_UNITS:
            unit = ""
        found.append(Amount(value, unit, len(digits.partition(".")[2])))
    if not found:
        found = [Amount(WORD_VALUES[match[0].casefold()], "", 0) for match in WORD_NUMBER.finditer(tail)]
    return tuple(found)


def in_unit(amount: Amount, wanted_unit: str) -> float | None:
    """The amount's value in another unit; None where the two measure different things."""
    if not amount.unit or not wanted_unit or singular(amount.unit.casefold()) == singular(wanted_unit.casefold()):
        return amount.value
    known, wanted = known_unit(amount.unit), known_unit(wanted_unit)
    if known is None or wanted is None:
        return None
    import pint

    try:
        return float(registry().Quantity(amount.value, known).to(wanted).magnitude)
    except (pint.PintError, OverflowError):
        return None


def judge_number(answer: str, tolerance: float | None, span: str) -> Finding:
    """``tolerance`` is relative (``metadata["tolerance"]``); without it decimals may be off by half the last digit."""
    gold = amounts(answer)
    if len(gold) != 1 or not math.isfinite(gold[0].value):
        raise DataError(f"the answer {answer!r} of a number question", "one number with an optional unit")
    wanted = gold[0]
    said = amounts(span)
    if not said:
        return Finding(None, "no number said")
    if tolerance is not None:
        allowed = abs(wanted.value) * tolerance
    else:
        allowed = 0.5 * 10.0**-wanted.decimals if wanted.decimals else 0.0
    allowed += CONVERSION_LOSS * abs(wanted.value)
    values = [in_unit(amount, wanted.unit) for amount in said]
    right = [value is not None and abs(value - wanted.value) <= allowed for value in values]
    shown = ", ".join(f"{amount.value:g} {amount.unit}".rstrip() for amount in said[:5])
    if any(right) and not all(right):
        return Finding(0.0, f"several numbers said: {shown}")  # one value twice, in two units, is no contradiction
    return right_or_wrong(all(right), f"says {shown}, wanted {wanted.value:g} {wanted.unit}".rstrip())
