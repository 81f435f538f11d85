"""A text with every number in digits: number words, fractions, Chinese numerals, and `1 hour 30 minutes` as one."""

import re
import unicodedata

from residency.platform.verifiers.normal_form import BESIDE_CHINESE, FOREIGN, INVISIBLE, without_markup

ONES = str.split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
)
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
SMALL = {word: value for value, word in enumerate(ONES)} | TENS | {"nil": 0, "dozen": 12, "half": 0}
WORD_NUMBER = re.compile(
    rf"(?<![\w-])(?:(?:{'|'.join(sorted(SMALL, key=len, reverse=True))}|hundred|thousand|million)"
    r"(?:(?: and |[ -])(?=(?:a half|hundred|thousand|million|point|"
    + "|".join(sorted(SMALL, key=len, reverse=True))
    + r")\b)(?:a half|hundred|thousand|million|point|"
    + "|".join(sorted(SMALL, key=len, reverse=True))
    + r")){0,8}|one half)(?![\w]|-(?!to))",
    re.I,
)
CHINESE_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
CHINESE_NUMBER = re.compile(
    r"(?:(?<![第\w])|(?<=[有共是约为到至]))([零〇一二两三四五六七八九十百]{1,6})(?=$|[个枚处颗根条块片只张次例倍天周"
    r"月年岁毫厘米克升度 ,.;])"
)
PERCENT_OF = re.compile(r"百分之 ?([0-9]+(?:\.[0-9]+)?)")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
POWER = re.compile(r"(?<=10)([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)")
COMMON_FRACTION = re.compile(r"([0-9]) ?([½¼¾⅓⅔⅛])|([½¼¾⅓⅔⅛])")
MIXED_FRACTION = re.compile(r"(?<![\w.,/])([0-9]{1,3}) ([0-9])/([1-9][0-9]?)(?![0-9/])")
FRACTION_VALUES = {"½": "5", "¼": "25", "¾": "75", "⅓": "3333333333", "⅔": "6666666667", "⅛": "125"}
SPACED_UNITS = (
    (re.compile(r"\bmm ?\(? ?hg\b\)?|\bmillimet(?:er|re)s? of mercury", re.I), "mmHg"),
    (re.compile(r"\bcm ?(?:of )?h ?_?\{?2\}?o\b|\bcentimet(?:er|re)s? of water", re.I), "cmH2O"),
    (re.compile(r"\b(?:degrees?|deg\.?|°) ?(?:celsius|centigrade|c)\b|℃", re.I), "°C"),
    (re.compile(r"\b(?:degrees?|deg\.?|°) ?(?:fahrenheit|f)\b|℉", re.I), "°F"),
    (re.compile(r"\b(?:beats?|pulses?) ?(?:per|/|a) ?min(?:utes?|s)?\b\.?", re.I), "bpm"),
    (re.compile(r"\bper ?cent\b", re.I), "%"),
    (re.compile(r"\bhounsfield units?\b", re.I), "HU"),
    (re.compile(r"\binternational units?\b", re.I), "IU"),
    (re.compile(r"\b(square|sq\.?|cubic|cu\.?) (?=[cm]?m(?:m|et)?\b|"
                r"centi|milli|met|inch|in\b|feet|foot)", re.I), r"\1"),
    (re.compile(r"(?<=[a-zA-Zµμ0-9)]) per (?=(?:kg|kilogram|day|hour|h|hr|min|minute|second|sec|"
                r"s|l|litre|liter|dl|ml|decilit|millilit|microlit|"
                r"µl|ul|mm|m2|m\^2|cubic|square|week|month|year|dose|beat|cell|high|field|microl|mole|mol)(?:re"
                r"|er|s|2|3|²|³|\b))", re.I), "/"),
    (re.compile(r"(?<=[0-9])[- ]?(?:years?|yrs?|y|months?|weeks?|days?)[- ](?:old|of age)\b", re.I), " year"),
)  # fmt: skip
# Time and length in two units: `1 hour 30 minutes`, `5 feet 7 inches`.
IN_TWO_UNITS = tuple(
    (
        re.compile(
            rf"(?<![\w.,/-])([0-9]{{1,4}}) ?-?(?:{large})\b,?(?: and)?"
            rf" ([0-9]{{1,2}}(?:\.[0-9]{{1,3}})?) ?-?(?:{small})\b",
            re.I,
        ),
        factor,
        unit,
    )
    for large, small, factor, unit in (
        ("hours?|hrs?|h", "minutes?|mins?|m", 60, "min"), ("minutes?|mins?|m", "seconds?|secs?|s", 60, "s"),
        ("days?|d", "hours?|hrs?|h", 24, "h"), ("weeks?", "days?", 7, "days"), ("years?|yrs?", "months?", 12, "months"),
        ("feet|foot|ft", "inch(?:es)?|in", 12, "inches"), ("pounds?|lbs?", "ounces?|oz", 16, "oz"),
        ("metres?|meters?|m", "centimetres?|centimeters?|cm", 100, "cm"),
        ("centimetres?|centimeters?|cm", "millimetres?|millimeters?|mm", 10, "mm"),
    )
)  # fmt: skip
MEASURES = (
    r"(?:hours?|minutes?|seconds?|days?|weeks?|months?|years?|inch(?:es)?|foot|feet|(?:centi|milli)?met(?:er|re)s?"
    r"|(?:milli)?lit(?:er|re)s?|(?:milli|kilo)?grams?|pounds?|cm|mm|ml|mg|g|kg)"
)
AND_A_HALF = re.compile(rf"\b(an?|one|[0-9]{{1,4}}) ({MEASURES}) and a (?:half|0\.5)\b", re.I)
HALF_MORE = re.compile(r"(?<![\w.,/-])([0-9]{1,4}) and a (?:half|0\.5)\b", re.I)
FRACTION_OF_ONE = re.compile(rf"\b(half|0\.5|(?:a )?quarter of|three quarters of) an? (?={MEASURES}\b)", re.I)
FRACTIONS_OF_ONE = {
    "half": "0.5",
    "0.5": "0.5",
    "quarter of": "0.25",
    "a quarter of": "0.25",
    "three quarters of": "0.75",
}
ONE_OF = re.compile(rf"\ban? (?={MEASURES}\b)", re.I)


def number_word(text: str) -> float:
    """``twenty-five`` → 25, ``two and a half`` → 2.5, ``three point five`` → 3.5."""
    total, current, decimal = 0.0, 0.0, None
    words = re.findall(r"[a-z]+", text.lower())
    for word in words:
        if decimal is not None and word in SMALL:
            decimal += str(SMALL[word])
        elif word == "point":
            decimal = ""
        elif word == "half":
            current += 0.5
        elif word == "dozen":
            current = max(current, 1) * 12
        elif word == "hundred":
            current = max(current, 1) * 100
        elif word in ("thousand", "million"):
            total += max(current, 1) * (1e3 if word == "thousand" else 1e6)
            current = 0.0
        elif word in SMALL:
            current += SMALL[word]
    return total + current + (float("0." + decimal) if decimal else 0.0)


def chinese_number(text: str) -> float:
    """``十二`` → 12, ``二十`` → 20, ``三百零五`` → 305."""
    total, digit = 0, 0
    for sign in text:
        if sign in CHINESE_DIGITS:
            digit = CHINESE_DIGITS[sign]
        else:
            total += (digit or 1) * (100 if sign == "百" else 10)
            digit = 0
    return float(total + digit)


def _in_digits(text: str) -> str:
    text = without_markup(text)
    if not text.isascii():
        text = POWER.sub(lambda found: "^" + found[0].translate(SUPERSCRIPTS), text)
        text = COMMON_FRACTION.sub(lambda f: (f[1] or "0") + "." + FRACTION_VALUES[f[2] or f[3]], text)
        text = text.replace("²", "^2").replace("³", "^3").replace("℃", "°C").replace("℉", "°F")
        text = unicodedata.normalize("NFKC", text).translate(INVISIBLE).replace("−", "-")
        text = text.translate(FOREIGN)
        text = PERCENT_OF.sub(r"\1%", text)
        text = BESIDE_CHINESE.sub(" ", text)
        text = CHINESE_NUMBER.sub(lambda found: f" {chinese_number(found[1]):g} ", text)
    text = MIXED_FRACTION.sub(
        lambda found: f"{int(found[1]) + int(found[2]) / int(found[3]):g}", " ".join(text.split())
    )
    for pattern, unit in SPACED_UNITS:
        text = pattern.sub(unit, text)
    return text


def _summed(text: str) -> str:
    """`1 hour 30 minutes`, `an hour and a half` and `half an hour` as one number each."""
    if "half" in text or "0.5" in text or "quarter" in text:
        text = AND_A_HALF.sub(lambda found: f"{int(found[1]) if found[1].isdigit() else 1}.5 {found[2]}", text)
        text = FRACTION_OF_ONE.sub(lambda found: FRACTIONS_OF_ONE[found[1].lower()] + " ", text)
        text = HALF_MORE.sub(r"\1.5", text)
    if not any(map(str.isdigit, text)):
        return ONE_OF.sub("1 ", text)
    for pattern, factor, unit in IN_TWO_UNITS:
        text = pattern.sub(lambda found, f=factor, u=unit: f"{int(found[1]) * f + float(found[2]):g} {u}", text)
    return text


def _replace_words(text: str) -> str:
    """Number words as digits, `one` alone only where the text has no other number (it is a pronoun too)."""

    def digits(found: re.Match[str]) -> str:
        if found[0].lower() in ("one", "half", "zero") and re.search(r"[0-9]", text):
            return found[0]
        return f"{number_word(found[0]):g}"

    return WORD_NUMBER.sub(digits, text)


def written_in_digits(text: str) -> str:
    """Markup, powers, units of several words and number words as `amounts` reads them: plain digits and units."""
    return _summed(_replace_words(_in_digits(text)))
