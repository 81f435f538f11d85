"""Open answers: exact match, token F1 and ROUGE-L F1; the accuracy is the token F1. Chinese counts by characters."""

from collections import Counter
from functools import lru_cache

from residency.platform.errors import DataError
from residency.platform.records import Item
from residency.platform.verifiers.finding import Finding
from residency.platform.verifiers.normal_form import bare, normal_form
from residency.platform.verifiers.short import LEAD_IN, Words, base_form

MAX_WORDS = 512  # the longest common subsequence costs the square of it


def f1(shared: int, said: int, wanted: int) -> float:
    return 2 * shared / (said + wanted) if said + wanted else 0.0


def common_subsequence(a: Words, b: Words) -> int:
    """Length of the longest common subsequence of words."""
    previous = [0] * (len(b) + 1)
    for word in a:
        current = [0]
        for j, other in enumerate(b):
            current.append(previous[j] + 1 if word == other else max(previous[j + 1], current[j]))
        previous = current
    return previous[-1]


def open_form(text: str) -> Words:
    """The words without `the answer is`; a synonym is another word here."""
    return base_form(LEAD_IN.sub("", bare(normal_form(text))))


@lru_cache(maxsize=8192)
def wanted_form(answer: str) -> Words:
    return open_form(answer)


def judge_open(item: Item, span: str) -> Finding:
    """``parts`` are exact (the same words in the same order), token_f1 and rouge_l (0–1)."""
    wanted = wanted_form(item.answer)
    if not wanted:
        raise DataError(f"the answer {item.answer!r} of an open question", "at least one word")
    said = open_form(span)
    if not said:
        return Finding(None, "no word said")
    exact = float(said == wanted)
    said, wanted = said[:MAX_WORDS], wanted[:MAX_WORDS]
    token_f1 = f1((Counter(said) & Counter(wanted)).total(), len(said), len(wanted))
    rouge_l = f1(common_subsequence(said, wanted), len(said), len(wanted))
    return Finding(
        token_f1,
        f"token F1 {token_f1:.3f}, ROUGE-L {rouge_l:.3f}{', word for word' if exact else ''}",
        {"exact": exact, "token_f1": token_f1, "rouge_l": rouge_l},
    )
