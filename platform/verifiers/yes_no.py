"""Yes or no, as whole words: `normal` is not `no`; `no` before a noun counts only where the question has the noun."""

import re
from functools import lru_cache

from residency.platform.errors import DataError
from residency.platform.verifiers.finding import Finding, right_or_wrong
from residency.platform.verifiers.normal_form import bare, normal_form, singular

WHOLE = {"yes": "yes", "y": "yes", "true": "yes", "是": "yes", "no": "no", "n": "no", "false": "no", "否": "no"}
WORD = re.compile(r"(?<![\w-])(yes|no)(?![\w-])")
NEGATED = re.compile(r"\bnot (?:a )?$")
ALONE = re.compile(r" ?(?:$|[.,;:!?)\"'<\]]|or\b|and\b|it\b|there\b|this\b|the\b)")
NEXT_WORDS = re.compile(r"(?: [\w-]+){1,3}")
EMPTY_TEXT = "a an the is are was were in on of at to and or any there this that it seen shown"
EMPTY_WORDS = frozenset(EMPTY_TEXT.split())


@lru_cache(maxsize=8192)
def question_words(question: str) -> frozenset[str]:
    words = re.findall(r"[\w-]+", normal_form(question))
    return frozenset(singular(word) for word in words) - EMPTY_WORDS


def said(text: str, question: str) -> set[str]:
    """Which of yes and no the text says; words that stand alone outrank a `no` before a noun."""
    whole = WHOLE.get(bare(text))
    if whole is not None:
        return {whole}
    alone: set[str] = set()
    denied = False
    for found in WORD.finditer(text):
        if NEGATED.search(text[max(0, found.start() - 8) : found.start()]):
            continue
        if found[1] == "yes" or ALONE.match(text, found.end()):
            alone.add(found[1])
        elif next_words := NEXT_WORDS.match(text, found.end()):
            denied |= not question_words(question).isdisjoint(singular(word) for word in next_words[0].split())
    return alone or ({"no"} if denied else set())


def judge_yes_no(answer: str, question: str, span: str) -> Finding:
    """Raises DataError where ``answer`` is neither yes nor no."""
    wanted = WHOLE.get(bare(normal_form(answer)))
    if wanted is None:
        raise DataError(f"the answer {answer!r} of a yes_no question", "yes or no")
    words = said(normal_form(span), question)
    if not words:
        return Finding(None, "neither yes nor no said")
    if len(words) > 1:
        return Finding(0.0, "both yes and no said")
    (only,) = words
    return right_or_wrong(only == wanted, f"says {only}, wanted {wanted}")
