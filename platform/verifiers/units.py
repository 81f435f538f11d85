"""Units as doctors write them, and conversion between them by pint; what measures something else is not converted."""

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from residency.platform.verifiers.plurals import singular

if TYPE_CHECKING:
    import pint

DEFINITIONS = (
    "international_unit = [international_unit] = iu = IU",
    "milliequivalent = [chemical_equivalent] = mEq",
    "hounsfield_unit = [radiodensity] = HU",
    "diopter_of_lens = 1 / meter",
    "beat = [beat]",
    "breath = [breath]",
    "blood_cell = [blood_cell]",
    "osmole = [osmole]",
    "metabolic_equivalent = [metabolic_equivalent]",
    "decibel_level = [decibel_level]",
    "peak_kilovoltage = [peak_kilovoltage]",
)
# As written, where capitals decide; then lower-case.
EXACT = {
    "mM": "millimolar",
    "µM": "micromolar",
    "nM": "nanomolar",
    "M": "molar",
    "T": "tesla",
    "Hz": "hertz",
    "MHz": "megahertz",
    "kHz": "kilohertz",
    "Gy": "gray",
    "mGy": "milligray",
    "Pa": "pascal",
    "V": "volt",
    "W": "watt",
    "N": "newton",
    "MBq": "megabecquerel",
    "mCi": "millicurie",
    "Bq": "becquerel",
    "A": "ampere",
    "K": "kelvin",
    "°C": "degree_Celsius",
    "°F": "degree_Fahrenheit",
    "C": "degree_Celsius",
    "F": "degree_Fahrenheit",
}
NAMES = {
    "mg": "milligram",
    "mcg": "microgram",
    "µg": "microgram",
    "ug": "microgram",
    "g": "gram",
    "gm": "gram",
    "gms": "gram",
    "gr": "gram",
    "kg": "kilogram",
    "kgs": "kilogram",
    "kilo": "kilogram",
    "kilos": "kilogram",
    "ng": "nanogram",
    "pg": "picogram",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "l": "liter",
    "ml": "milliliter",
    "mls": "milliliter",
    "cc": "milliliter",
    "dl": "deciliter",
    "µl": "microliter",
    "ul": "microliter",
    "mcl": "microliter",
    "cl": "centiliter",
    "fl": "femtoliter",
    "nl": "nanoliter",
    "m": "meter",
    "cm": "centimeter",
    "cms": "centimeter",
    "mm": "millimeter",
    "mms": "millimeter",
    "µm": "micrometer",
    "um": "micrometer",
    "nm": "nanometer",
    "micron": "micrometer",
    "km": "kilometer",
    "in": "inch",
    "inches": "inch",
    "ft": "foot",
    "feet": "foot",
    "sec": "second",
    "secs": "second",
    "s": "second",
    "ms": "millisecond",
    "msec": "millisecond",
    "min": "minute",
    "mins": "minute",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "d": "day",
    "wk": "week",
    "wks": "week",
    "mo": "month",
    "mos": "month",
    "yr": "year",
    "yrs": "year",
    "y": "year",
    "%": "percent",
    "percent": "percent",
    "percentage": "percent",
    "°c": "degree_Celsius",
    "°f": "degree_Fahrenheit",
    "celsius": "degree_Celsius",
    "centigrade": "degree_Celsius",
    "fahrenheit": "degree_Fahrenheit",
    "°": "degree",
    "deg": "degree",
    "mmhg": "millimeter_Hg",
    "torr": "millimeter_Hg",
    "cmh2o": "centimeter_H2O",
    "kpa": "kilopascal",
    "iu": "international_unit",
    "u": "international_unit",
    "unit": "international_unit",
    "units": "international_unit",
    "miu": "milliinternational_unit",
    "µiu": "microinternational_unit",
    "mu": "milliinternational_unit",
    "meq": "milliequivalent",
    "hu": "hounsfield_unit",
    "bpm": "beat/minute",
    "rpm": "revolutions_per_minute",
    "beats": "beat",
    "breaths": "breath",
    "cells": "blood_cell",
    "cell": "blood_cell",
    "mol": "mole",
    "mmol": "millimole",
    "µmol": "micromole",
    "umol": "micromole",
    "nmol": "nanomole",
    "pmol": "picomole",
    "mosm": "milliosmole",
    "gy": "gray",
    "cgy": "centigray",
    "mgy": "milligray",
    "sv": "sievert",
    "msv": "millisievert",
    "µsv": "microsievert",
    "kcal": "kilocalorie",
    "cal": "calorie",
    "kj": "kilojoule",
    "hz": "hertz",
    "mhz": "megahertz",
    "khz": "kilohertz",
    "kv": "kilovolt",
    "mv": "millivolt",
    "kvp": "peak_kilovoltage",
    "mbq": "megabecquerel",
    "mci": "millicurie",
    "tesla": "tesla",
    "db": "decibel_level",
    "d/s": "1/second",
    "stone": "stone",
    "ppm": "ppm",
    "dpt": "diopter_of_lens",
    "diopter": "diopter_of_lens",
    "毫克": "milligram",
    "微克": "microgram",
    "克": "gram",
    "千克": "kilogram",
    "公斤": "kilogram",
    "斤": "0.5*kilogram",
    "毫升": "milliliter",
    "升": "liter",
    "毫米": "millimeter",
    "厘米": "centimeter",
    "公分": "centimeter",
    "米": "meter",
    "微米": "micrometer",
    "毫米汞柱": "millimeter_Hg",
    "天": "day",
    "日": "day",
    "小时": "hour",
    "分钟": "minute",
    "分": "minute",
    "秒": "second",
    "周": "week",
    "星期": "week",
    "月": "month",
    "个月": "month",
    "年": "year",
    "岁": "year",
    "次/分": "beat/minute",
    "次/分钟": "beat/minute",
    "度": "degree",
    "摄氏度": "degree_Celsius",
    "百分比": "percent",
    "单位": "international_unit",
}
COUNTED = re.compile(r"^(?:beat|breath|blood_cell)\b")  # `72 bpm` may be written `72/min`
EXPONENT = re.compile(r"\^?([23])$|[²³]$")
LITRE = re.compile(r"litre")
METRE = re.compile(r"metre")
BODY_SURFACE = re.compile(r"/1\.73m\^?[2²]?$")


@cache
def registry() -> "pint.UnitRegistry[float]":
    """pint's units and those of medicine that it lacks; imported late because it costs half a second."""
    import pint

    units: pint.UnitRegistry[float] = pint.UnitRegistry()
    for definition in DEFINITIONS:
        units.define(definition)
    return units


def _name(part: str) -> str:
    """One factor of a unit in pint's spelling."""
    power = ""
    for word in ("square", "sq", "cubic", "cu"):
        if part.lower().startswith(word) and len(part) > len(word):
            part, power = part[len(word) :].lstrip(". "), "**2" if word in ("square", "sq") else "**3"
            break
    if not power and (found := EXPONENT.search(part)) and len(part) > 1:
        digit = found[1] or {"²": "2", "³": "3"}[found[0]]
        part, power = part[: found.start()], f"**{digit}"
    lower = part.lower()
    known = EXACT.get(part) or NAMES.get(lower) or NAMES.get(singular(lower))
    return (
        known or METRE.sub("meter", LITRE.sub("liter", lower if lower.isalpha() and len(lower) > 4 else part))
    ) + power


@lru_cache(maxsize=4096)
def known_unit(written: str) -> str | None:
    """pint's name of a unit (`mg/dL` → `milligram / deciliter`), or None where it knows none (`tablets`, `lesions`)."""
    import pint

    written = BODY_SURFACE.sub("", written.replace("μ", "µ").replace(" ", ""))
    whole = None if written in EXACT else NAMES.get(written.lower())
    parts = [whole] if whole else [_name(part) if part else "" for part in written.split("/")]
    name = "/".join(part or "1" for part in parts)
    if not name or not re.fullmatch(r"[\w*/.]+", name):
        return None
    try:
        unit = (
            str(registry().parse_units(name)) if not name[0].isdigit() else str(registry().parse_expression(name).units)
        )
    except (
        pint.PintError,
        ValueError,
        TypeError,
        AttributeError,
        SyntaxError,
        OverflowError,
        RecursionError,
        KeyError,
    ):
        return None  # what pint raises for names that it cannot read
    return unit if unit and unit != "dimensionless" else None


@lru_cache(maxsize=4096)
def line_to(unit: str, wanted: str) -> tuple[float, float] | None:
    """(factor, offset) with which a value in one of pint's units becomes one in another; None for another dimension."""
    import pint

    units = registry()
    try:
        zero = float(units.Quantity(0.0, unit).to(wanted).magnitude)
        one = float(units.Quantity(1.0, unit).to(wanted).magnitude)
    except (pint.PintError, OverflowError, ZeroDivisionError, ValueError):
        return None
    return one - zero, zero


def same_unit(one: str, other: str) -> bool:
    """Whether two units are the same as written, but for plural and capitals that decide nothing."""
    if one == other:
        return True
    return singular(one.lower()) == singular(other.lower()) and one not in EXACT and other not in EXACT


def in_unit(value: float, unit: str, wanted: str) -> float | None:
    """The value in another unit; None where the two measure different things. Without a unit on a side it stays."""
    if not unit or not wanted or same_unit(unit, wanted):
        return value
    known, known_wanted = known_unit(unit), known_unit(wanted)
    if known is None or known_wanted is None:
        return None
    if known == known_wanted:
        return value
    line = line_to(known, known_wanted)
    if line is None and (known.startswith("1 /") or known_wanted.startswith("1 /")):
        line = line_to(COUNTED.sub("1", known), COUNTED.sub("1", known_wanted))
    return None if line is None else value * line[0] + line[1]
