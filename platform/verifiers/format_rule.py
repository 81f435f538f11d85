"""The format of a completion, each part exactly once and in order, with nothing after it.

``think``: `<think>…</think><answer>…</answer>` or `<think>…</think> … \\boxed{…}`.
``direct``: a bare answer without tags.
"""

import re

from residency.platform.records import PromptMode

# The bound on white space keeps the search linear in texts of a megabyte.
TAG = re.compile(r"<\s{0,8}(/?)\s{0,8}(think|answer)\s{0,8}>")
BOXED = re.compile(r"\\boxed\s{0,4}\{")
BRACE = re.compile(r"[{}]")
# What may follow a box: the end of its formula and of its sentence.
CLOSING = re.compile(r"(?:[\s.$。*]|\\\)|\\\])*")
END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>")
ORDER = ["think", "/think", "answer", "/answer"]


def without_end_token(text: str) -> str:
    """The text without white space at its edges and without the chat's end token."""
    text = text.strip()
    for token in END_TOKENS:
        text = text.removesuffix(token).rstrip()
    return text


def tags_of(text: str) -> list[tuple[str, int, int]]:
    """Every tag as (name, start, end); a closing tag's name begins with a slash."""
    return [(match[1] + match[2], match.start(), match.end()) for match in TAG.finditer(text)]


def box_of(text: str) -> tuple[int, int] | None:
    """Where the content of the only `\\boxed{…}` stands, braces balanced; None for none, an open one, or several."""
    opening = BOXED.search(text)
    if opening is None or BOXED.search(text, opening.end()):
        return None
    depth = 1
    for brace in BRACE.finditer(text, opening.end()):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return opening.end(), brace.start()
    return None


def box_fault(text: str) -> str | None:
    """Why the text does not end in one `\\boxed{…}`; None where it does."""
    inside = box_of(text)
    if inside is None:
        return "not exactly one whole \\boxed{}"
    if not text[inside[0] : inside[1]].strip():
        return "empty \\boxed{}"
    if not CLOSING.fullmatch(text, inside[1] + 1):
        return "text after \\boxed{}"
    return None


def format_fault(text: str, mode: PromptMode) -> str | None:
    """Why the text does not have the mode's format; None where it does. Outer white space does not count."""
    text = without_end_token(text)
    tags = tags_of(text)
    if mode is PromptMode.DIRECT:
        if tags:
            return f"tag <{tags[0][0]}> in a direct answer"
        if BOXED.search(text):
            return box_fault(text)
        return None if text else "empty answer"
    names = [name for name, _, _ in tags]
    if names == ORDER[:2] and BOXED.search(text, tags[1][2]):
        return _think_fault(text, tags) or box_fault(text[tags[1][2] :])
    if names != ORDER:
        return f"tags {names[:8]} instead of think, /think, answer, /answer" if names else "no tags"
    (_, _, after_think), (_, answer, inside), (_, end_answer, after) = tags[1:]
    if fault := _think_fault(text, tags):
        return fault
    if text[after_think:answer].strip():
        return "text between </think> and <answer>"
    if after != len(text):
        return "text after </answer>"
    if not text[inside:end_answer].strip():
        return "empty answer"
    return None


def _think_fault(text: str, tags: list[tuple[str, int, int]]) -> str | None:
    (_, first, think), (_, end_think, _) = tags[:2]
    if first != 0:
        return "text before <think>"
    if not text[think:end_think].strip():
        return "empty think"
    return None
