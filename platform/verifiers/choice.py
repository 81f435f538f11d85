"""Choice: a letter, an option's text, or both. Several different options are wrong, none is an abstention."""

import re
from dataclasses import dataclass
from functools import lru_cache

from residency.platform.errors import DataError
from residency.platform.verifiers.finding import Finding, right_or_wrong
from residency.platform.verifiers.normal_form import bare, normal_form, singular

NEGATED = re.compile(
    r"\b(?:not|no|non|never|neither|nor|isn't|without|unlike|excluding|rather than|instead of)"
    r"(?: (?:a|an|the|in|on|at|option))?[ -]$"
)
NEGATION_REACH = 24  # characters before a mention in which the negation and its article fit
BRACKETED = re.compile(r"\(([a-z])\)")
LED = re.compile(
    r"(?:^|\b(?:answer|option|choice)(?: is)?:? )"
    r"([a-z])(?=$|[.):,;/&](?![\w.])|[/&][a-z]\b|,[a-z]\b| (?:and|or|&)(?: |$)| ?- )"
)
FOLLOWING = re.compile(r"[.)]? ?(?:,|/|&|;|\band\b|\bor\b) ?(?:or |and |option )?\(?([a-z])\b(?! \w)\)?")
BARE_LETTER_AND_TEXT = re.compile(r"([b-z]) (.+)")  # not `a`, which may be the article


@dataclass(frozen=True, slots=True)
class OptionReader:
    """The options in normal form, prepared for reading; ``mention`` has one group an option."""

    texts: tuple[str, ...]
    by_text: dict[str, int]
    mention: re.Pattern[str]
    group_options: tuple[int, ...]
    letters: bool


@lru_cache(maxsize=8192)
def option_reader(options: tuple[str, ...]) -> OptionReader:
    """Compiles the options once; raises DataError where there are none or one is empty."""
    texts = tuple(bare(normal_form(option)) or normal_form(option) for option in options)
    if not texts or not all(texts):
        raise DataError(f"a choice with the options {list(options)}", "at least one option, none of them empty")
    stems = [singular(text) for text in texts]
    plural = len(set(stems)) == len(set(texts))  # else `lesion` and `lesions` are two options

    def pattern(i: int) -> str:
        long_enough = plural and len(stems[i]) > 3  # `mrs` is not `mr`
        return re.escape(stems[i]) + "(?:e?s)?" if long_enough else re.escape(texts[i])

    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    alternatives = "|".join(f"({pattern(i)})" for i in order)
    return OptionReader(
        texts=texts,
        by_text={text: i for i, text in enumerate(texts)},
        mention=re.compile(rf"(?<![\w-])(?<!\d[.,/])(?:{alternatives})(?!\w|-\w|[.,/]\d)"),
        group_options=tuple(order),
        letters=not any(len(text) == 1 and text.isalpha() for text in texts),
    )


def named_letters(text: str) -> set[str]:
    """Letters that stand as option letters: `(b)`, `b.`, `answer: b`, `a or b`; not the article in `a nodule`."""
    letters = set(BRACKETED.findall(text))
    for first in LED.finditer(text):
        letters.add(first[1])
        position = first.end()
        while following := FOLLOWING.match(text, position):
            letters.add(following[1])
            position = following.end()
    return letters


def named_options(text: str, reader: OptionReader) -> set[str]:
    """Texts of the options that the span names (a letter outside the options stands for itself)."""
    core = bare(text)
    if core in reader.by_text:
        return {core}
    letters: set[str] = set()
    if reader.letters:
        if len(core) == 1 and "a" <= core <= "z":
            letters = {core}
        else:
            letters = named_letters(text)
            pair = BARE_LETTER_AND_TEXT.fullmatch(core)
            if pair and pair[2] in reader.by_text:
                letters.add(pair[1])
    named: set[str] = set()
    for letter in letters:
        index = ord(letter) - ord("a")
        named.add(reader.texts[index] if index < len(reader.texts) else f"letter {letter}")
    for found in reader.mention.finditer(text):
        if not NEGATED.search(text[max(0, found.start() - NEGATION_REACH) : found.start()]):
            named.add(reader.texts[reader.group_options[(found.lastindex or 1) - 1]])
    return named


def judge_choice(answer: str, options: tuple[str, ...], span: str) -> Finding:
    """``answer`` is the right option's text; raises DataError where it is none of the options."""
    reader = option_reader(options)
    wanted = bare(normal_form(answer)) or normal_form(answer)
    if wanted not in reader.by_text:
        raise DataError(f"the answer {answer!r} is none of the options {list(options)}", "the text of one option")
    named = named_options(normal_form(span), reader)
    if not named:
        return Finding(None, "no option named")
    if len(named) > 1:
        return Finding(0.0, f"several options named: {', '.join(sorted(named))}")
    (only,) = named
    return right_or_wrong(only == wanted, f"names {only!r}, wanted {wanted!r}")
