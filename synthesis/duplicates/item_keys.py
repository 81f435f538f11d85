"""The keys by which two items can agree, each a 64-bit hash: content, question, answer, options, patient."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from residency.platform.records import AnswerKind, Item
from residency.platform.verifiers.normal_form import bare, normal_form
from residency.platform.verifiers.short import gold_form
from residency.synthesis.duplicates.question_form import question_form

LISTED = {AnswerKind.SHORT, AnswerKind.CHOICE, AnswerKind.OPEN, AnswerKind.NUMBER}
YES_OR_NO = frozenset(("yes", "no", "是", "否", "有", "没有", "true", "false"))
FREE = {AnswerKind.OPEN, AnswerKind.REPORT}  # two wordings of one answer are the rule


def hash64(parts: Iterable[str]) -> int:
    """A 64-bit hash of a list of strings; never 0, which stands for *none*."""
    text = json.dumps(list(parts), ensure_ascii=False).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") or 1


@dataclass(frozen=True, slots=True)
class ItemKeys:
    content: int
    question: int  # of the words in their normal form, in order
    answer: int
    options: int  # 0 without; in any order
    patient: int  # 0 where unknown
    question_words: int


@lru_cache(maxsize=1 << 16)
def question_key(question: str) -> tuple[int, int]:
    """The hash of the question's words and how many they are."""
    words = question_form(question).words
    return hash64(words), len(words)


@lru_cache(maxsize=1 << 16)
def answer_key(answer: str, kind: AnswerKind) -> int:
    """``CT`` and ``computed tomography`` have one key; a box or a report only by its characters."""
    if kind is AnswerKind.YES_NO or kind in LISTED:
        return hash64(("said", *gold_form(answer)))
    return hash64((kind, bare(normal_form(answer))))


@lru_cache(maxsize=1 << 12)
def says_yes_or_no(answer: str) -> bool:
    """Whether the answer alone tells nothing of what was asked."""
    return bare(normal_form(answer)) in YES_OR_NO


def patient_key(item: Item) -> int:
    """By the patient's id as the source gives it; two sources share one only where their ids were made alike."""
    return hash64(("patient", item.patient_id)) if item.patient_id else 0


def item_keys(item: Item) -> ItemKeys:
    """All keys of an item."""
    question, words = question_key(item.question)
    return ItemKeys(
        content=hash64((item.content_key,)),
        question=question,
        answer=answer_key(item.answer, item.answer_kind),
        options=hash64(sorted(bare(normal_form(option)) for option in item.options)) if item.options else 0,
        patient=patient_key(item),
        question_words=words,
    )
