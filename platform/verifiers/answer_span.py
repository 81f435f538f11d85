"""Where the final answer stands: `<answer>`, else `\\boxed{}`, else (direct mode) behind `Final answer:`, or all."""

import re

from residency.platform.records import PromptMode
from residency.platform.verifiers.format_rule import BOXED, CLOSING, box_of, tags_of, without_end_token

# A paragraph that opens with a marker, after others: what was thought aloud before it is no part of the answer.
MARKED = re.compile(
    r"(?:\n|(?<=[.!?。]) )[ \t>#*_-]{0,8}"
    r"(?:(?:so|therefore|thus|hence|in conclusion|in summary)[,:]? {0,2})?"
    r"(?:(?:the|my) )?(?:final |correct |best |right )?answer(?: is|:| *\n)"
    r"|\n[ \t>#*_-]{0,8}(?:因此|所以|综上)?[,，]?(?:最终|正确)?答案(?:是|为|[:：])",
    re.IGNORECASE,
)
MARKS = " \t\n*_:：#"
LONGEST_MARKED = 400  # characters behind the marker; with more the text went on reasoning


def marked(text: str) -> str | None:
    """What stands behind the only marker of a text that reasons first; None without one, or with several."""
    found = list(MARKED.finditer(text))
    if len(found) != 1:
        return None
    answer = text[found[0].end() :].strip(MARKS)
    return answer if answer and len(answer) <= LONGEST_MARKED and "\n\n" not in answer else None


def boxed(text: str) -> str | None:
    """What the only `\\boxed{…}` holds, braces balanced; None for none, an open one, several, or words after it."""
    inside = box_of(text)
    if inside is None or not CLOSING.fullmatch(text, inside[1] + 1):
        return None
    return text[inside[0] : inside[1]].strip()


def answer_span(text: str, mode: PromptMode) -> str | None:
    """The final answer as written, or None where the text gives none.

    An `<answer>` counts only once, outside `<think>` and at the end: a key that stands in the reasoning is no answer,
    and words after the answer may take it back.
    """
    text = without_end_token(text)
    tags = tags_of(text)
    names = [name for name, _, _ in tags]
    if "answer" in names or "/answer" in names:
        if names.count("answer") != 1 or names[-1] != "/answer" or names[-2] != "answer":
            return None
        opening = len(names) - 2
        if names[:opening].count("think") != names[:opening].count("/think"):
            return None
        if not CLOSING.fullmatch(text, tags[-1][2]):
            return None
        return text[tags[opening][2] : tags[-1][1]].strip() or None
    if names and names[-1] != "/think":
        return None  # an open <think>: the text ends inside the reasoning
    rest = text[tags[-1][2] :].strip() if tags else text
    if BOXED.search(rest):
        return boxed(rest) or None
    if mode is PromptMode.DIRECT:
        return marked(rest) or rest or None
    return None
