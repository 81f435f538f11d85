"""The normal form in which answers are compared: compatibility characters, case, white space, markup, loose"
" punctuation."""

import re
import unicodedata

EDGES = " .,:;!?\"'`*()[]{}_#~"
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
DASHES = dict.fromkeys(map(ord, "‐‑‒–−"), "-") | dict.fromkeys(map(ord, "—―"), ", ")  # a long dash ends a clause
QUOTES = dict.fromkeys(map(ord, "’‘`´"), "'") | dict.fromkeys(map(ord, "“”«»„"), '"')
CHINESE_MARKS = {
    ord("。"): ". ", ord("、"): ", ", ord("《"): '"', ord("》"): '"', ord("「"): '"', ord("」"): '"',
    ord("【"): "(", ord("】"): ")", ord("〈"): '"', ord("〉"): '"',
}  # fmt: skip
FOREIGN = INVISIBLE | DASHES | QUOTES | CHINESE_MARKS
CHINESE = "\u3400-\u9fff"
HAS_CHINESE = re.compile(f"[{CHINESE}]")
BESIDE_CHINESE = re.compile(f"(?<=[{CHINESE}])(?=[a-zA-Z0-9])|(?<=[a-zA-Z0-9%])(?=[{CHINESE}])")
HAS_MARKUP = re.compile(r"[\\$`]|\*\*|__")
WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|bm|boxed|operatorname) ?\{([^{}]*)\}")
MATHS = {
    "\\%": "%", "\\times": "×", "\\cdot": "×", "\\mu": "µ", "\\pm": "±", "\\approx": "≈", "^{\\circ}": "°",
    "^\\circ": "°", "\\circ": "°", "\\degree": "°", "\\left": "", "\\right": "", "\\sim": "≈", "\\leq": "≤",
    "\\le": "≤", "\\geq": "≥", "\\ge": "≥", "\\frac": "\\frac", "\\quad": " ", "\\newline": " ",
}  # fmt: skip
COMMAND = re.compile(r"\^\{\\circ\}|\^\\circ|\\%|\\[a-zA-Z]+|\\.|[$`]|\*\*|__", re.DOTALL)
# A word-level tokenizer may put spaces around punctuation: `x - ray`, `2 . 5`, `mr .`
LOOSE_DECIMAL = re.compile(r"(?<=[0-9]) \. (?=[0-9])")
LOOSE_HYPHEN = re.compile(r"(?<=\w) ?- ?(?=\w)")
BEFORE_MARK = re.compile(r" (?=[.,;:!?)\]%])")
AFTER_BRACKET = re.compile(r"(?<=[(\[]) ")
LATIN_OTHER_SCRIPT = re.compile(
    r"[A-Za-z][\u0370-\u03ff\u0400-\u052f\u13a0-\u13ff]|[\u0400-\u052f\u13a0-\u13ff][A-Za-z]"
    r"|(?<!\w)[\u0391-\u03a9\u0400-\u052f\u13a0-\u13ff](?!\w)"
)


def without_markup(text: str) -> str:
    """``$\\text{B}$``, ``**B**`` and ``\\boxed{B}`` are B."""
    if not HAS_MARKUP.search(text):
        return text
    for _ in range(3):  # nested no deeper in practice; a fixed count keeps it linear
        text, count = WRAPPED.subn(r"\1", text)
        if not count:
            break
    return COMMAND.sub(lambda found: MATHS.get(found[0], " " if found[0][:1] == "\\" else ""), text)


def plain_text(text: str) -> str:
    """The text, capitals kept, in compatibility characters with single spaces and tight punctuation, without markup."""
    if text.isascii() and text.replace(" ", "").isalnum():
        return " ".join(text.split())
    text = without_markup(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(QUOTES)).translate(FOREIGN)
        text = BESIDE_CHINESE.sub(" ", text)
    text = " ".join(text.split())
    if " " in text:
        text = LOOSE_DECIMAL.sub(".", text)
        text = BEFORE_MARK.sub("", text)
        text = AFTER_BRACKET.sub("", text)
    return text


def normal_form(text: str) -> str:
    """Lower-case ``plain_text`` with tight hyphens; ``normal_form("X - Ray .") == "x-ray."``."""
    text = plain_text(text).lower()
    return LOOSE_HYPHEN.sub("-", text) if "-" in text else text


def bare(normal: str) -> str:
    """A normal form without punctuation at its edges."""
    return normal.strip(EDGES)


def mixes_scripts(text: str) -> bool:
    """Whether Latin letters stand beside Cyrillic, Greek or Cherokee ones in a word, or a look-alike stands alone.

    Such a letter is never read as the Latin letter it looks like: nobody can say what was meant.
    """
    return not text.isascii() and LATIN_OTHER_SCRIPT.search(text) is not None
