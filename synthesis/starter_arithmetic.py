"""Dose and unit arithmetic with small whole numbers: the textual family of the starter set."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import product

from residency.platform.records import AnswerKind, Family, Split
from residency.synthesis.drafts import Draft

DRUGS = ("aspirin", "iron", "zinc", "codeine", "insulin", "folate", "quinine", "lithium", "morphine", "calcium")
FACTORS = range(1, 7)
UNITS = (("g", "mg", 1000), ("l", "ml", 1000), ("days", "hours", 24), ("weeks", "days", 7), ("hours", "minutes", 60))
MARGINS = (-3, -1, 1, 3)  # mg from the total to the limit
LICENCE = "CC0 (written by Residency)"


def text_split(row_key: str) -> Split:
    """The split of a text, by the hash of its row key: 70 % train, 10 % tune, 20 % held out."""
    place = int(hashlib.sha256(row_key.encode()).hexdigest()[:8], 16) % 100
    return Split.TRAIN if place < 70 else Split.TUNE if place < 80 else Split.HELD_OUT


def draft_sums(split: Split) -> list[Draft]:
    """Every text of one split."""
    return [draft for draft in (*_totals(), *_limits(), *_conversions()) if text_split(draft.row_key) == split]


def _totals() -> Iterator[Draft]:
    for drug, strength, tablets in product(DRUGS, FACTORS, FACTORS):
        question = f"one tablet of {drug} has {strength} mg . {tablets} tablets are taken . how many mg in all ?"
        facts = {"strength": str(strength), "tablets": str(tablets)}
        yield _draft("dose_total", question, str(strength * tablets), AnswerKind.NUMBER, facts)


def _limits() -> Iterator[Draft]:
    for drug, strength, tablets, margin in product(DRUGS, FACTORS, FACTORS, MARGINS):
        total = strength * tablets
        limit = total + margin
        if limit < 1:
            continue
        question = (
            f"one tablet of {drug} has {strength} mg . {tablets} tablets are taken . the limit is {limit} mg ."
            " is it too much ?"
        )
        facts = {"total": str(total), "limit": str(limit)}
        yield _draft("dose_limit", question, "yes" if total > limit else "no", AnswerKind.YES_NO, facts)


def _conversions() -> Iterator[Draft]:
    for drug, amount, (large, small, factor) in product(DRUGS, FACTORS, UNITS):
        question = f"how many {small} are {amount} {large} of {drug} ?"
        facts = {"factor": str(factor), "amount": str(amount)}
        yield _draft("unit_convert", question, str(amount * factor), AnswerKind.NUMBER, facts)


def _draft(task: str, question: str, answer: str, kind: AnswerKind, facts: Mapping[str, str]) -> Draft:
    return Draft(
        task=task,
        family=Family.TEXTUAL_REASONING,
        question=question,
        answer=answer,
        answer_kind=kind,
        facts=facts,
        cluster=f"text:{question}",
        row_key=question,
        licence=LICENCE,
        balance_by=answer if kind is AnswerKind.YES_NO else "",  # products cannot be equally frequent
    )
