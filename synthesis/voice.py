"""Whether a text is one thinker's: it speaks to nobody, and of no other answer than its own train of thought."""

import re

from residency.synthesis.routing.leaks import find_leak

WHO = r"(?:first|previous|earlier|prior|original|initial|above|other|wrong|sampled|student'?s|model'?s)"
WHAT = r"(?:answer|response|solution|reasoning|attempt|trace|explanation|thought process|completion)"

RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("speaks to a reader", r"\b(?:dear (?:reader|user|student)|the reader|as you can see|you (?:should|must|can see"
         r"|may|might|will|said|wrote|asked|were)|your (?:answer|reasoning|question|mistake|image))\b"),
        ("speaks of another answer", rf"\b(?:the|this|that|his|her|their|an?) {WHO} {WHAT}\b"),
        ("speaks of another answer", rf"\b{WHAT} (?:above|given before|that was given|was given first)\b"),
        ("speaks of another person", r"\b(?:the (?:student|model|assistant|user|author|ai|teacher)|another (?:doctor"
         r"|person|expert|model)|someone else|as an ai)\b"),
        ("speaks to a reader", r"(?:读者|请注意,?您|你的(?:答案|回答|推理)|您的(?:答案|回答|推理))"),
        ("speaks of another answer", r"(?:之前|上面|前面|最初|第一次|先前)的(?:回答|答案|推理|解答)"),
    )
)  # fmt: skip
ANNOTATIONS = re.compile(
    r"\b(?:the|these|its|an?) (?:annotations?|labels?|bounding box(?:es)?) (?:say|show|give|state|tell)s?\b", re.I
)


def second_voice(text: str) -> str:
    """Which rule hears a second voice, with the words; empty where none does."""
    for name, pattern in RULES:
        if found := pattern.search(text):
            return f"{name}: {found.group().strip()!r}"
    return ""


def key_leak(text: str) -> str:
    """What only someone with the key, or with the annotations, could say; empty where nothing is."""
    if found := ANNOTATIONS.search(text):
        return f"speaks of annotations: {found.group()!r}"
    return find_leak(text)
