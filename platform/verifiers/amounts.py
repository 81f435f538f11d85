"""The numbers of a text: digits in any notation, number words, fractions, ranges and bounds, each with its unit."""

import math
import re
from functools import lru_cache
from typing import NamedTuple

from residency.platform.verifiers.negation import NO_DENIAL, last_match
from residency.platform.verifiers.number_words import written_in_digits
from residency.platform.verifiers.retraction import is_disowned

MAX_CHARACTERS = 4096
UNIT = r"(?:%|°[CF]?|(?:(?:square|sq|cubic|cu)\.? ?)?[A-Za-zµμ]{1,20}(?:\^?[23²³]|2O)?(?![0-9])|[\u4e00-\u9fff]{1,4})"
DIGITS = (
    r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]{1,40})?|[0-9]{1,3}(?:['  ][0-9]{3})+(?![0-9.,])(?:\.[0-9]{1,40})?"
    r"|[0-9]{1,3},[0-9]{1,2}(?![0-9,])(?!,)|[0-9]{1,40}(?:\.[0-9]{1,40}| \. [0-9]{1,40})?|\.[0-9]{1,40}"
)
NUMBER = re.compile(
    r"(?<![\w.,^])(?P<sign>[-−+]|(?<![\w)%] )- |(?:\b(?:minus|negative) ))?"
    rf"(?P<digits>{DIGITS})"
    r"(?P<power>[eE][+-]?[0-9]{1,3}|(?: ?[x×*] ?10 ?(?:\^ ?\{?"
    r"|\*\* ?)?\{?(?P<exponent>[+-]?[0-9]{1,3})\}?(?![0-9])))?(?![0-9])"
    r"(?:(?P<fraction> ?/ ?[0-9]{1,3}(?![0-9.]))(?! ?[a-zA-Z]*hg))?"
    rf"(?: ?-?(?P<unit>/?{UNIT}(?: ?/ ?(?:1\.73 ?)?{UNIT}){{0,3}}))?"
)
BOUND = re.compile(
    r"(?:[<>≤≥]=?|\b(?:less|more|greater|fewer|smaller|larger|lower|higher|bigger|longer|shorter|older"
    r"|younger) than(?: or equal to)?"
    r"|\bat (?:least|most)|\bup to|\bunder|\bover|\babove|\bbelow|\bexceed(?:s|ing)?|\bbeyond|\bno (?:more|less) than"
    r"|\bmaximum(?: of)?|\bminimum(?: of)?|\bwithin|\bnot|n't(?: be)?|\bnever|\brather than|\binstead of"
    r"|\bexcept|\bexcluding"
    r"|\bneither|\bnor|\b(?:any|every)\w* but|\ball but|\btwice|\bhalf(?: of)?|\bdouble|\btriple|\bthird of"
    r"|\bquarter of"
    r"|\bquadruple|\bthrice|\b\w+fold|\b(?:tenth|fifth|fraction|multiple|square|square root|cube|inverse|reciprocal"
    r"|opposite|part|rest|remainder) of"
    r"|\b(?:would|could|might|should) have been|\bused to be|\btimes"
    r"|除了|大于|小于|超过|不足|至少|至多|不是|并非|不到|低于|高于|多于|少于)"
    r"(?: (?:a|an|the|about|be|exactly|equal to|approximately|around))? ?[\[(\"']?$",
    re.I,
)
BOUND_AFTER = re.compile(
    r",? ?(?:if|unless|assuming|provided)\b(?! i\b| we\b)| ?(?:\+(?! ?[0-9])|(?:more|less|fewer|too (?:many|much"
    r"|few|little|high|low|large|small|big)|short|doubled"
    r"|halved|tripled|quadrupled|squared|cubed|times|fold|off)\b(?! than)"
    r"|or (?:more|less|greater|fewer|higher|lower|above|below|over|under|older)\b|and (?:above"
    r"|below|over|up)\b|以上|以下"
    r"|(?:is|was|are|would be) (?:the |a |an )?(?:not|wrong|incorrect|false|too|unlikely|excluded|ruled out)\b"
    r"|\^|isn't)",
    re.I,
)
TO = re.compile(r" ?(?:-|–|~|to|and|through|until|±|\+/-|\+-|到|至) ?$|^ ?(?:-|~) ?$", re.I)
PLUS_MINUS = re.compile(r"±|\+/?-")
NOT_UNITS = frozenset(
    str.split(
        "and or to the in of is are per at on for with was were it as by from but not that which because"
        " since so be a an x times total overall respectively this there here i we you they who what when"
        " if then than also only about approximately correct right wrong answer final therefore thus hence"
        " based given seen shown visible present well each both all daily twice once every after before"
        " during until through between versus vs plus minus more less equals equal means would should"
        " could can may might will do does did has have had no yes ok okay please years-old old"
    )
)
WORKING = re.compile(r"\([^()]*(?:[×*=÷]|\bper\b| x |/ ?kg|\+)[^()]*\)")
EQUALS = re.compile(r"=(?!=)|≈|\bequals\b|\bcomes to\b")
LEAD = re.compile(
    r"\b(?:final answer|answer|result|total|dose)(?: \w+)? (?:is|would be)|\banswer:|\btherefore\b|\bthus\b|\bhence\b",
    re.I,
)


# How often (`12 mg every hour`): another amount, unless the answer or the question has the same words.
RATE = re.compile(
    r",? ?(?:(?:given|taken|once|twice|thrice|(?:two|three|four|five|six|[0-9]{1,2}) ?(?:times|x)) )?"
    r"(?:(?:every|each|per|a|an)(?: (?:other|second|third|few|[0-9]{1,2}|two|three|four|six|eight|twelve))?[ -]"
    r"(?P<period>second|minute|min|hour|hr|h|day|night|morning|evening|week|month|year|dose|beat|breath|cycle|meal|visit"
    r"|session|side|eye|kidney|lung|kilogram|kg|tablet|vial|ampoule|litre|liter)s?\b"
    r"|(?P<adverb>hourly|daily|nightly|weekly|fortnightly|monthly|yearly|annually|apiece|b\.?i\.?d|t\.?i\.?d"
    r"|q\.?i\.?d|q\.?d|o\.?d|q[0-9]{1,2}h?|每[天日周月年小时次]+))",
    re.I,
)
PERIODS = {"hourly": "hour", "daily": "day", "nightly": "night", "weekly": "week", "monthly": "month",
           "yearly": "year", "annually": "year", "qd": "day", "od": "day", "hr": "hour", "h": "hour",
           "min": "minute"}  # fmt: skip
ORDINAL_UNITS = frozenset(("st", "nd", "rd", "th"))
CLOCK = re.compile(
    r" ?(?:o'?clock|[ap]\.?m\.?(?![a-z])|(?:january|february|march|april|june|july|august|september|october|november"
    r"|december)\b)",
    re.I,
)
LABEL = re.compile(
    r"\b(figures?|fig\.?|questions?|rooms?|series|beds?|slices?|images?|pages?|tables?|cases?|patients?|panels?"
    r"|sections?|chapters?|ribs?|teeth|tooth"
    r"|vertebrae?|fingers?|toes?|chromosomes?|trisomy|nerves?|cn|rows?|columns?|paragraphs?|appendix|day"
    r"|notes?|refs?|references?|serial|mrn|floors?|ports?|stations?|readers?|raters?|batch"
    r"|steps?|options?|versions?|wards?|study|visits?|items?|segments?|zones?|vitamin|factor|phase|frames?|exam"
    r"|scan|photo|slides?"
    r"|(?:bi|pi|li|ti|o|c|lung)-?rads|gleason(?: score)?|apgar(?: score)?|grades?|stages?|types?|levels?|class"
    r"|category|groups?|asa|who"
    r"|nyha|birads|pirads)(?: (?:no\.?|number|grade|class|#))?[ :#-]*$",
    re.I,
)


class Amount(NamedTuple):
    """A value or a range (``low`` < ``high``) in a unit as written, empty where there is none."""

    low: float
    high: float
    unit: str
    decimals: int
    denied: bool = False  # a bound (`more than 5`) or denied (`not 5`)
    label: str = ""  # what the number names (`figure 2`), lower case: no amount, unless the question asks for it
    rate: str = ""  # how often (`hour` in `every hour`, `hourly`); empty where nothing is said


def _tail(text: str) -> str:
    """The text without what was worked out before the result."""
    text = WORKING.sub(" ", text)
    result = last_match(EQUALS.finditer(text))
    if result:
        text = text[result.end() :]
    lead = last_match(LEAD.finditer(text))
    if lead and not re.match(r"[^a-z]*[0-9]", text, re.I) and re.search(r"[0-9]", text[lead.end() :]):
        text = text[lead.end() :]
    return text


def _rate(text: str, end: int) -> str:
    found = RATE.match(text, end)
    if found is None:
        return ""
    said = (found["period"] or found["adverb"]).lower().replace(".", "")
    return PERIODS.get(said, said)


@lru_cache(maxsize=8192)
def amounts(text: str) -> tuple[Amount, ...]:
    """Every number of the text with its unit; where something was worked out, only what follows the last `=`."""
    tail = _tail(written_in_digits(text[:MAX_CHARACTERS]))
    lower = tail.lower() if len(tail.lower()) == len(tail) else tail
    found: list[Amount] = []
    last_end, open_range = -1, False
    for match in NUMBER.finditer(tail):
        digits = match["digits"].replace(" ", "").replace("'", "")
        digits = digits.replace(",", "") if re.search(r",[0-9]{3}", digits) else digits.replace(",", ".")
        between = tail[last_end : match.start()] if last_end >= 0 else ""
        joined = last_end >= 0 and TO.search(between) is not None and len(between) <= 8
        sign = match["sign"]
        if sign is not None and sign.strip() == "-" and last_end >= 0 and tail[last_end : match.start()].strip() == "":
            joined, sign = True, None  # `3-5`, `3 -5`
        power = match["power"] or ""
        exponent = match["exponent"] if match["exponent"] is not None else power[1:]
        value = float(digits + (f"e{exponent}" if exponent else ""))
        if match["fraction"]:
            divisor = float(match["fraction"].strip(" /"))
            value = value / divisor if divisor else math.inf
        if sign and sign.strip().lower() in ("-", "minus", "negative"):
            value = -value
        unit = (match["unit"] or "").replace(" ", "")
        if unit.casefold() in NOT_UNITS and not (unit.lower() == "in" and match.end() == len(tail.rstrip(". "))):
            unit = ""
        elif unit.casefold().split("/")[-1] in NOT_UNITS:
            unit = unit.rpartition("/")[0]
        end = match.end() if unit else match.end("fraction") if match["fraction"] else match.end("power")
        end = end if end >= 0 else match.end("digits")
        before = tail[max(0, match.start() - 40) : match.start()]
        denied = BOUND.search(NO_DENIAL.sub("", before)) is not None or BOUND_AFTER.match(tail, end) is not None
        denied = denied or is_disowned(lower, match.start(), end)
        decimals = len(digits.partition(".")[2])
        label = LABEL.search(before)
        name = label[1].lower() if label else ""
        if not joined and re.search(r"[A-Za-z]-$", before) and match.start() - 1 != last_end:
            name = "compound"  # `F-18`, `COVID-19`
        if unit in ORDINAL_UNITS:
            unit, name = "", "which"  # `the 7th rib`
        elif clock := CLOCK.match(tail, match.end("digits")):
            unit, name = clock[0].strip().lower().replace(".", ""), "when"
        amount = Amount(value, value, unit, decimals, denied, name, _rate(tail, end))
        if joined and found and not open_range:
            previous = found[-1]
            connected = previous.unit or unit
            if "and" in between.lower() and "between" not in tail[max(0, last_end - 40) : last_end].lower():
                found.append(amount)
            elif PLUS_MINUS.search(between):
                found[-1] = Amount(
                    previous.low - value, previous.low + value, connected, previous.decimals, previous.denied
                )
            else:
                low, high = sorted((previous.low, value))
                found[-1] = Amount(
                    low, high, unit or connected, max(previous.decimals, decimals), previous.denied or denied
                )
            open_range = True
        else:
            found.append(amount)
            open_range = False
        last_end = match.end()
    return tuple(found)
