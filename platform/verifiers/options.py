"""The options of a choice and what names each of them; all but their texts is worked out when it is asked for."""

import re
from functools import cached_property, lru_cache

from residency.platform.errors import DataError
from residency.platform.verifiers.normal_form import bare, normal_form
from residency.platform.verifiers.plurals import singular
from residency.platform.verifiers.short import Words, gold_form

# The option `no`, unless it denies the noun behind it.
NO = re.compile(r"(?<![\w-])no(?=$|[.,;:!?)\"']| (?:or|and|it|there|this|the)\b)")
DENYING = ("no ", "not ", "non-", "without ", "no evidence of ", "absence of ", "不", "无", "没有")
SMALL_WORDS = frozenset(("and", "or", "the", "a", "of"))
FIRST_CHINESE, LAST_CHINESE = "\u3400", "\u9fff"
WORD = re.compile(r"\w+")


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_chinese(character: str) -> bool:
    return FIRST_CHINESE <= character <= LAST_CHINESE


def _is_digit(character: str) -> bool:
    return "0" <= character <= "9"


class OptionReader:
    """Options in normal form; of two with one text (`CT`, `ct.`) the first stands for both."""

    def __init__(self, options: tuple[str, ...]) -> None:
        texts = tuple([bare(normal := normal_form(option)) or normal for option in options])
        if not texts or not all(texts):
            raise DataError(f"a choice with the options {list(options)}", "at least one option, none of them empty")
        self.texts = texts
        self.by_text: dict[str, int] = {}
        for i, text in enumerate(texts):
            self.by_text.setdefault(text, i)
        # letter → the option whose text is that letter
        self.letter_texts = {
            ord(text) - ord("a"): i for text, i in self.by_text.items() if len(text) == 1 and "a" <= text <= "z"
        }
        self.letters = not self.letter_texts or all(
            i == letter for letter, i in self.letter_texts.items() if letter < len(texts)
        )

    def first(self, index: int) -> int:
        """The option that stands for this one and its twins."""
        return self.by_text[self.texts[index]] if index < len(self.texts) else index

    @cached_property
    def by_form(self) -> dict[Words, int]:
        """One spelling, synonyms → option; only forms that one option has."""
        forms = [(gold_form(text), i) for text, i in self.by_text.items()]
        every = [form for form, _ in forms]
        return {form: i for form, i in forms if form and every.count(form) == 1}

    @cached_property
    def longer(self) -> tuple[frozenset[str], ...]:
        """For each option the words that would make its text another, longer option's."""
        words = [frozenset(WORD.findall(text)) for text in self.texts]
        return tuple(
            frozenset[str]().union(*(other - mine for other in words if mine < other)) - SMALL_WORDS for mine in words
        )

    @cached_property
    def denied(self) -> dict[int, int]:
        """Option → the option that denies it (`lesion` → `no lesion`)."""
        return {
            self.by_text[text]: i
            for full, i in self.by_text.items()
            for prefix in DENYING
            if full.startswith(prefix) and (text := full.removeprefix(prefix)) in self.by_text
        }

    @cached_property
    def searched(self) -> list[tuple[int, str, str, bool]]:
        """The options whose text is looked for, longest first: number, text, its stem, whether a plural names it too.

        A text that is one letter is looked for among the letters: `a` would be found in every article.
        """
        texts = [(text, i) for text, i in self.by_text.items() if i not in self.letter_texts.values()]
        texts.sort(key=lambda each: -len(each[0]))
        stems = {text: singular(text) for text in self.by_text}
        plural = len(set(stems.values())) == len(stems)  # else `lesion` and `lesions` are two options
        return [
            (i, text, stems[text], True) if plural and len(stems[text]) > 3 else (i, text, text, False)
            for text, i in texts
        ]

    def named_in(self, text: str) -> list[tuple[int, int, int]]:
        """(start, end, option) of every option that stands in the text as words of its own, none within another."""
        found: list[tuple[int, int, int, int]] = []
        for order, (i, whole, stem, plural) in enumerate(self.searched):
            if whole == "no":
                found += [(start, order, end, i) for start, end in (match.span() for match in NO.finditer(text))]
            elif "-" in whole:
                found += [(start, order, end, i) for start, end in _hyphened(text, whole, stem, plural)]
            else:
                start = text.find(stem)
                while start >= 0:
                    if (end := _end_of(text, start, whole, stem, plural)) >= 0:
                        found.append((start, order, end, i))
                    start = text.find(stem, start + 1)
                if not whole.startswith(stem):  # `appendices`: its stem is none of it
                    start = text.find(whole)
                    while start >= 0:
                        if _starts(text, start) and _ends(text, start + len(whole)):
                            found.append((start, order, start + len(whole), i))
                        start = text.find(whole, start + 1)
        found.sort()
        kept: list[tuple[int, int, int]] = []
        last = 0
        for start, _, end, i in found:
            if start >= last:
                kept.append((start, end, i))
                last = end
        return kept


def _starts(text: str, start: int) -> bool:
    """Whether a text that starts here is no part of a longer word or number."""
    if start == 0 or _is_chinese(text[start]):
        return True
    before = text[start - 1]
    if before == " ":
        return True
    if before == "-" or _is_word(before):
        return False
    return not (before in ".,/" and start > 1 and _is_digit(text[start - 2]))


def _ends(text: str, end: int) -> bool:
    """Whether a text that ends here is no part of a longer word or number."""
    if end == len(text) or _is_chinese(text[end - 1]):
        return True
    after = text[end]
    if after == " ":
        return True
    if _is_word(after):
        return False
    following = text[end + 1 : end + 2]
    if after == "-":
        return not (following and _is_word(following))
    return not (after in ".,/" and following and _is_digit(following))


def _end_of(text: str, start: int, whole: str, stem: str, plural: bool) -> int:
    """Where the option ends that starts here with its stem; -1 where it is no word of its own."""
    if not _starts(text, start):
        return -1
    end = start + len(stem)
    if plural and whole[-1].isalpha():  # `mrs` is not `mr`
        for ending in ("es", "s"):
            if text.startswith(ending, end) and _ends(text, end + len(ending)):
                return end + len(ending)
    if _ends(text, end):
        return end
    if whole is not stem and text.startswith(whole, start) and _ends(text, start + len(whole)):
        return start + len(whole)
    return -1


def _hyphened(text: str, whole: str, stem: str, plural: bool) -> list[tuple[int, int]]:
    """Where an option with a hyphen stands; there may be spaces around the hyphen, and none between its words."""
    if not all(piece in text for piece in re.split("[- ]", stem)):
        return []
    return [match.span() for match in _hyphen_pattern(whole, stem, plural).finditer(text)]


@lru_cache(maxsize=2048)
def _hyphen_pattern(whole: str, stem: str, plural: bool) -> re.Pattern[str]:
    body = re.escape(stem).replace(r"\-", " ?- ?").replace(r"\ ", " ?")
    if plural and whole[-1].isalpha():
        body = f"(?:{body}(?:e?s)?|{re.escape(whole)})"
    before = "" if _is_chinese(whole[0]) else r"(?<![\w-])(?<![0-9][.,/])"
    after = "" if _is_chinese(whole[-1]) else r"(?!\w|-\w|[.,/][0-9])"
    return re.compile(before + body + after)


@lru_cache(maxsize=8192)
def option_reader(options: tuple[str, ...]) -> OptionReader:
    """Raises DataError where there are no options or one is empty."""
    return OptionReader(options)
