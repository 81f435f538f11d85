"""Open answers: exact match, token F1 and ROUGE-L F1; the accuracy is the token F1."""

from collections import Counter

from residency.platform.errors import DataError
from residency.platform.verifiers.finding import Finding
from residency.platform.verifiers.short import short_form

MAX_WORDS = 512  # the longest common subsequence costs the square of it


def f1(shared: int, said: int, wanted: int) -> float:
    return 2 * shared / (said + wanted) if said + wanted else 0.0


def common_subsequence(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Length of the longest common subsequence of words."""
    previous = [0] * (len(b) + 1)
    for word in a:
        current = [0]
        for j, other in enumerate(b):
            current.append(previous[j] + 1 if word == other else max(previous[j + 1], current[j]))
        previous = current
    return previous[-1]


def judge_open(answer: str, span: str) -> Finding:
    """``parts`` are exact, token_f1 and rouge_l (0–1)."""
    wanted = short_form(answer)[:MAX_WORDS]
    if not wanted:
        raise DataError(f"the answer {answer!r} of an open question", "at least one word")
    said = short_form(span)[:MAX_WORDS]
    if not said:
        return Finding(None, "no word said")
    token_f1 = f1((Counter(said) & Counter(wanted)).total(), len(said), len(wanted))
    rouge_l = f1(common_subsequence(said, wanted), len(said), len(wanted))
    parts = {"exact": float(said == wanted), "token_f1": token_f1, "rouge_l": rouge_l}
    return Finding(token_f1, f"token F1 {token_f1:.3f}, ROUGE-L {rouge_l:.3f}", parts)
