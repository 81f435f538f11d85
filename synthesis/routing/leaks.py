"""Whether a reasoning speaks of the answer that its writer was given: such a trace teaches to have a key."""

import re

# not "correct" or "true" alone: "so the correct answer is B" is how anybody ends
GIVEN = r"(?:given|provided|supplied|stated|reference|gold|ground[- ]truth|official)"
KEY_WORD = r"(?:reference|gold(?:en)?|ground[- ]truth)[ -]+(?:answer|solution|label|key)"
TOLD = r"\b(?:i|we) (?:was|were|am|are|have been|had been) (?:told|informed|given)"
THE_ANSWER = r"(?:the |this |an? )?(?:correct |right |final |true )?(?:answer|solution|diagnosis)"
KNOWING = r"\b(?:since|because|as|given that|knowing(?: that)?|know(?:n)? that|considering)"
AGREES = r"\b(?:match(?:es|ing)?|consistent|agree(?:s|ing)?|in line|align(?:s|ed|ing)?|fits?)\b(?: with)?"
SAYS = r"(?:says?|tells?|states?|asks?|mentions?|not to|provides?)"

RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("speaks of a reference", rf"\b{KEY_WORD}\b"),
        ("speaks of a reference", r"\b(?:the|this) reference (?:clearly )?(?:says|states|gives|tells|confirms)\b"),
        ("speaks of an answer key", r"\b(?:answer|solution) key\b"),
        (
            "speaks of a given answer",
            r"\b(?:answer|solution)\b[^.\n]{0,20}\b(?:is|was|has been|being) (?:already )?"
            r"(?:given|provided|supplied|known to (?:me|us|be))\b(?! by)",
        ),
        (
            "speaks of a given answer",
            rf"\b{GIVEN} (?:correct )?(?:final )?answer\b"
            r"(?! (?:should|must|would|cannot|can|could|to|among|choices?|options?|will)\b)",
        ),
        ("was told", rf"{TOLD} (?:that )?{THE_ANSWER}\b"),
        ("follows the given answer", rf"{KNOWING}\b[^.\n]{{0,20}}\b{THE_ANSWER} (?:is|was|must be|should be)\b"),
        (
            "follows the given answer",
            rf"{AGREES} (?:the )?(?:{GIVEN}|known|expected|correct) (?:answer|label|solution)\b",
        ),
        (
            "speaks of its instructions",
            rf"\b(?:the|my|these|your) (?:prompt|instructions?|task description)\b[^.\n]{{0,40}}\b{SAYS}\b",
        ),
        ("speaks of a reference", r"(?:参考|标准|给定|已知|所给)的?(?:正确)?答案"),
        ("was told", r"(?:题目|提示)(?:已经?|中)?(?:给出|告诉|说明)了?[^。\n]{0,10}答案"),
    )
)


def find_leak(reasoning: str) -> str:
    """Which rule finds a leak, with the words; empty where none does."""
    for name, pattern in RULES:
        found = pattern.search(reasoning)
        if found:
            return f"{name}: {found.group().strip()!r}"
    return ""
