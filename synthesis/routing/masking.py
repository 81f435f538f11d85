"""The reasoning of a trace without its answer: what a second call must come to the same answer from."""

import re

from residency.platform.reasoning import split_reasoning
from residency.platform.records import AnswerKind, Item

MASK = "[…]"
SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?]+(?=\s|$)|\n+|$)|[^\n]")
CONCLUDES = re.compile(
    r"\b(?:answer|conclu\w+|therefore|thus|hence|consequently|overall|in summary|so)\b|答案|因此|所以|综上",
    re.IGNORECASE,
)
BOXED = re.compile(r"\\boxed\s*\{[^{}]*\}")
LETTER = r"(?<![\w'])(?:option|choice|answer)?\s*\(?\b{letter}\b\)?(?!['\w])"


def said_patterns(item: Item) -> list[re.Pattern[str]]:
    """How this item's answer may be written: its text, and the letter of its option."""
    answer = item.answer.strip()
    patterns = []
    if answer:
        edge = r"(?<!\w)" if answer[0].isalnum() else ""
        patterns.append(re.compile(edge + re.escape(answer) + (r"(?!\w)" if answer[-1].isalnum() else ""), re.I))
    if item.answer_kind is AnswerKind.CHOICE and item.answer in item.options:
        letter = chr(ord("A") + item.options.index(item.answer))
        patterns.append(re.compile(LETTER.replace("{letter}", letter)))
    return patterns


def mask_answer(item: Item, text: str) -> str:
    """The reasoning of a completion, its answer masked wherever it is concluded; observations stay as they are.

    Masked are ``\\boxed{…}``, sentences that conclude ("therefore …") and the last sentence. An item that asks for what
    is plainly named in between keeps that name: the second call then proves less, and costs nothing.
    """
    reasoning, _ = split_reasoning(text)
    reasoning = BOXED.sub(MASK, reasoning)
    sentences = [match.group() for match in SENTENCE.finditer(reasoning) if match.group()]
    filled = [number for number, sentence in enumerate(sentences) if sentence.strip()]
    patterns = said_patterns(item)
    for number in filled:
        if number == filled[-1] or CONCLUDES.search(sentences[number]):
            for pattern in patterns:
                sentences[number] = pattern.sub(MASK, sentences[number])
    return "".join(sentences).strip()
