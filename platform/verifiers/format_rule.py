"""The format of a completion: `<think>…</think><answer>…</answer>` once and in order, or a bare answer without tags."""

import re

from residency.platform.records import PromptMode

# The bound on white space keeps the search linear in texts of a megabyte.
TAG = re.compile(r"<\s{0,8}(/?)\s{0,8}(think|answer)\s{0,8}>")
END_TOKENS = ("<|im_end|>", "<|endoftext|>")
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


def format_fault(text: str, mode: PromptMode) -> str | None:
    """Why the text does not have the mode's format; None where it does. Outer white space does not count."""
    text = without_end_token(text)
    tags = tags_of(text)
    if mode is PromptMode.DIRECT:
        if tags:
            return f"tag <{tags[0][0]}> in a direct answer"
        return None if text else "empty answer"
    names = [name for name, _, _ in tags]
    if names != ORDER:
        return f"tags {names[:8]} instead of think, /think, answer, /answer" if names else "no tags"
    (_, first, think), (_, end_think, after_think), (_, answer, inside), (_, end_answer, after) = tags
    if first != 0:
        return "text before <think>"
    if text[after_think:answer].strip():
        return "text between </think> and <answer>"
    if after != len(text):
        return "text after </answer>"
    if not text[think:end_think].strip():
        return "empty think"
    if not text[inside:end_answer].strip():
        return "empty answer"
    return None
