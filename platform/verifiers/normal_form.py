"""The normal form in which answers are compared: compatibility characters, case, white space and loose punctuation."""

import re
import unicodedata

EDGES = " .,:;!?\"'`*()[]{}_"
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
DASHES = dict.fromkeys(map(ord, "‐‑‒–—−"), "-")
QUOTES = {ord("’"): "'", ord("‘"): "'", ord("“"): '"', ord("”"): '"'}
FOREIGN = INVISIBLE | DASHES | QUOTES
# A word-level tokenizer may put spaces around punctuation: `x - ray`, `2 . 5`, `mr .`
LOOSE_DECIMAL = re.compile(r"(?<=\d) \. (?=\d)")
LOOSE_HYPHEN = re.compile(r"(?<=\w) ?- ?(?=\w)")
BEFORE_MARK = re.compile(r" (?=[.,;:!?)\]%])")
AFTER_BRACKET = re.compile(r"(?<=[(\[]) ")


def normal_form(text: str) -> str:
    """Lower-case text with single spaces and tight punctuation; ``normal_form("X - Ray .") == "x-ray."``."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(FOREIGN)
    text = " ".join(text.casefold().split())
    if " " in text:
        text = LOOSE_DECIMAL.sub(".", text)
        text = LOOSE_HYPHEN.sub("-", text)
        text = BEFORE_MARK.sub("", text)
        text = AFTER_BRACKET.sub("", text)
    return text


def bare(normal: str) -> str:
    """A normal form without punctuation at its edges."""
    return normal.strip(EDGES)


def singular(word: str) -> str:
    """The word without a plural s (``nodules`` → ``nodule``); ``mass``, ``pelvis`` and ``fetus`` stay."""
    if len(word) > 3 and word.endswith("s") and word[-2] not in "siu":
        return word[:-1]
    return word
