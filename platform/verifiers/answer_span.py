"""Where the final answer stands in a completion: `<answer>`, else `\\boxed{}`, else (direct mode) the whole text."""

from residency.platform.records import PromptMode
from residency.platform.verifiers.format_rule import tags_of, without_end_token

BOXED = "\\boxed{"


def boxed(text: str) -> str | None:
    """What the only `\\boxed{…}` holds, braces balanced; None for none, an open one, or several that differ."""
    found: set[str] = set()
    start = text.find(BOXED)
    while start >= 0:
        depth, position = 1, start + len(BOXED)
        begin = position
        while position < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            position += 1
        if depth:
            return None
        found.add(text[begin : position - 1].strip())
        start = text.find(BOXED, position)
    return found.pop() if len(found) == 1 else None


def answer_span(text: str, mode: PromptMode) -> str | None:
    """The final answer as written, or None where the text gives none.

    An `<answer>` counts only once and outside `<think>`: a key that stands in the reasoning is no answer.
    """
    text = without_end_token(text)
    tags = tags_of(text)
    names = [name for name, _, _ in tags]
    if "answer" in names or "/answer" in names:
        if names.count("answer") != 1 or names.count("/answer") != 1:
            return None
        opening = names.index("answer")
        if names[opening + 1 : opening + 2] != ["/answer"]:
            return None
        if names[:opening].count("think") != names[:opening].count("/think"):
            return None
        return text[tags[opening][2] : tags[opening + 1][1]].strip() or None
    if names and names[-1] != "/think":
        return None  # an open <think>: the text ends inside the reasoning
    rest = text[tags[-1][2] :].strip() if tags else text
    inside = boxed(rest)
    if inside is not None:
        return inside or None
    if mode is PromptMode.DIRECT:
        return rest or None
    return None
