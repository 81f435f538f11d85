"""From an answer as published to an answer that the verifiers can judge.

A free answer is ``yes_no`` where it is yes or no (also 是 and 否), ``short`` up to five words, else ``open``.
Of Chinese text two characters count as one word.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from residency.platform.records import AnswerKind
from residency.platform.verifiers.normal_form import bare, normal_form
from residency.synthesis.benchmarks.published_files import UnusableRow

YES_NO = {"yes": "yes", "no": "no", "是": "yes", "是的": "yes", "否": "no", "不是": "no"}
SHORT_WORDS = 5
CHINESE = re.compile(r"[\u3400-\u9fff]")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def count_words(text: str) -> int:
    """Words between blanks, and half the Chinese characters."""
    return len(CHINESE.sub(" ", text).split()) + (len(CHINESE.findall(text)) + 1) // 2


def free_answer(published: str) -> tuple[str, AnswerKind]:
    """The gold answer and its kind where no options are given."""
    yes_or_no = YES_NO.get(bare(normal_form(published)))
    if yes_or_no is not None:
        return yes_or_no, AnswerKind.YES_NO
    return published, AnswerKind.SHORT if count_words(published) <= SHORT_WORDS else AnswerKind.OPEN


def without_label(option: str, position: int) -> str:
    """An option without the letter that the file puts before it: ``A: CT``, ``A. CT`` or ``(A) CT`` → ``CT``."""
    return re.sub(rf"^\s*(?:\({LETTERS[position]}\)|{LETTERS[position]}\s*[:.)])\s*", "", option).strip()


def option_of_letter(letter: str, options: Sequence[str]) -> str:
    """The text of the option with this letter; raises UnusableRow for any other letter."""
    position = LETTERS.find(letter.strip().upper()) if len(letter.strip()) == 1 else -1
    if not 0 <= position < len(options):
        raise UnusableRow("its answer is no option's letter", f"{letter!r} of {len(options)} options")
    return options[position]


def option_of_text(text: str, options: Sequence[str]) -> str:
    """The option that the text repeats, but for case and punctuation; raises UnusableRow where none does."""
    if text in options:
        return text
    for option in options:
        if normal_form(option) == normal_form(text) or bare(normal_form(option)) == bare(normal_form(text)) != "":
            return option
    raise UnusableRow("its answer is none of its options", repr(text))


def labels(**values: Any) -> Mapping[str, Any]:
    """Metadata without what the row does not say."""
    return {name: value for name, value in values.items() if value not in (None, "", [], ())}
