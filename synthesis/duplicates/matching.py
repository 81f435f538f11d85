"""Which rows agree in what: five joins on disk over the keys of a row store, their finds put into slots.

Two items are about the same picture if their pictures, in order, belong to the same groups (*scene*). Within a scene
questions with the same answer are compared each with each while there are few, through MinHash bands where there are
many (all text questions are one scene).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from residency.synthesis.duplicates.key_buckets import KeyBuckets, Keys, Rows, Runs, mixed
from residency.synthesis.duplicates.pairs import PairVerdict
from residency.synthesis.duplicates.question_form import QuestionForm, question_form, says_enough, similarity
from residency.synthesis.duplicates.row_store import RowStore
from residency.synthesis.duplicates.shingles import (
    LONG_BANDS,
    SHORT_BANDS,
    SignatureFile,
    band_keys,
    is_long,
    signatures,
)
from residency.synthesis.duplicates.slots import Slots

FEW = 48  # questions with one answer about one picture: up to here each is compared with each
CASE_WORDS = 20  # a question so long is a case report, the same whatever picture stands beside it
SIGNED_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Joining:
    """What the joins need: rows, scene keys, a folder for the bucket files, and how far short questions must agree."""

    store: RowStore
    scene: Keys
    folder: Path
    buckets: int
    question_similarity: float

    def join(self, name: str, keys: Keys, rows: Rows) -> KeyBuckets:
        joined = KeyBuckets(self.folder, name, self.buckets)
        joined.add(keys, rows)
        return joined

    def form(self, row: int) -> QuestionForm:
        return question_form(self.store.question(row))


def scenes(store: RowStore, group: NDArray[np.uint32]) -> Keys:
    """One key a row for its pictures' groups in their order; rows without pictures share one."""
    starts, counts = store.column("media_at").astype(np.int64), store.column("media_count").astype(np.int64)
    keys = np.full(len(store), 1, np.uint64)
    for place in range(int(counts.max(initial=0))):
        has = counts > place
        keys[has] = mixed(keys[has], group[store.media[starts[has] + place]].astype(np.uint64) + np.uint64(1))
    return keys


def match(joining: Joining, group: NDArray[np.uint32]) -> Slots:
    """Run all joins; surer evidence first, since a row keeps the first partner it is offered."""
    slots = Slots(joining.store.column("rank").astype(np.uint8))
    _equal_content(joining, slots)
    _equal_questions(joining, slots)
    _case_reports(joining, slots)
    _similar_questions(joining, slots)
    _patients(joining, slots)
    _same_pictures(joining, slots, group)
    return slots


def _split_by_answer(runs: Runs, joining: Joining, slots: Slots) -> None:
    """Rows of one run ask the same: with an equal answer they are copies, with another one they conflict."""
    run = np.repeat(np.arange(len(runs.sizes)), runs.sizes)
    answer = joining.store.rows["answer"][runs.rows]
    by = np.lexsort((slots.order[runs.rows], answer, run))
    rows, run, answer = runs.rows[by], run[by], answer[by]
    begins = np.concatenate(([True], (run[1:] != run[:-1]) | (answer[1:] != answer[:-1])))
    first = rows[np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))]
    slots.offer_copies(first, rows)
    head = runs.firsts()  # the first row of the whole run
    free = joining.store.rows["free"][runs.rows]
    other = (joining.store.rows["answer"][runs.rows] != joining.store.rows["answer"][head]) & (
        slots.rank[runs.rows] > 0
    )
    slots.offer_copies(head[other & free], runs.rows[other & free])  # another wording of an open answer
    settled = other & ~free & (joining.store.rows["options"][runs.rows] == joining.store.rows["options"][head])
    slots[PairVerdict.CONFLICT].offer(head[settled], runs.rows[settled])


def _equal_content(joining: Joining, slots: Slots) -> None:
    rows = np.arange(len(joining.store), dtype=np.uint32)
    for runs in joining.join("content", joining.store.column("content"), rows).runs(slots.order):
        _split_by_answer(runs, joining, slots)


def _equal_questions(joining: Joining, slots: Slots) -> None:
    rows = np.arange(len(joining.store), dtype=np.uint32)
    keys = mixed(joining.scene, joining.store.column("question"))
    for runs in joining.join("question", keys, rows).runs(slots.order):
        _split_by_answer(runs, joining, slots)


def _case_reports(joining: Joining, slots: Slots) -> None:
    rows = np.flatnonzero(joining.store.column("words") >= CASE_WORDS).astype(np.uint32)
    keys = mixed(joining.store.column("question")[rows], joining.store.column("answer")[rows])
    for runs in joining.join("case", keys, rows).runs(slots.order):
        slots.offer_copies(runs.firsts(), runs.rows)


def _similar_questions(joining: Joining, slots: Slots) -> None:
    rows = np.arange(len(joining.store), dtype=np.uint32)
    keys = mixed(joining.scene, joining.store.column("answer"))
    banded = KeyBuckets(joining.folder, "bands", joining.buckets * 4)
    signed = SignatureFile(joining.folder, len(joining.store))
    for runs in joining.join("answer", keys, rows).runs(slots.order):
        for first, second in runs.pairs(at_most=FEW):
            _compare(joining, slots, first, second)
        crowded = np.repeat(runs.sizes > FEW, runs.sizes)
        _add_bands(joining, banded, signed, runs.keys[crowded], runs.rows[crowded])
    for runs in banded.runs(slots.order):
        # a band that more rows share is a phrase that many questions have: each is compared with the first alone
        head, crowded = runs.firsts(), np.repeat(runs.sizes > FEW, runs.sizes)
        for first, second in (*runs.pairs(at_most=FEW), (head[crowded], runs.rows[crowded])):
            alike = (first != second) & signed.alike(first, second)
            _compare(joining, slots, first[alike], second[alike])


def _add_bands(joining: Joining, banded: KeyBuckets, signed: SignatureFile, keys: Keys, rows: Rows) -> None:
    for at in range(0, len(rows), SIGNED_AT_ONCE):
        part, salt = rows[at : at + SIGNED_AT_ONCE], keys[at : at + SIGNED_AT_ONCE]
        forms = [joining.form(int(row)) for row in part]
        signs = signatures(forms)
        signed.add(part, signs)
        long = np.array([is_long(form) for form in forms])
        for chosen, shape in ((long, LONG_BANDS), (~long, SHORT_BANDS)):
            bands = band_keys(signs[chosen], shape)
            salted = mixed(bands, np.repeat(salt[chosen, None], shape[0], axis=1))
            banded.add(salted.ravel(), np.repeat(part[chosen], shape[0]))


def _compare(joining: Joining, slots: Slots, first: Rows, second: Rows) -> None:
    """Compare questions that have picture and answer in common; what is a leak already is not looked at again.

    A repeat is: it may stay within its split, and must not hide a leak.
    """
    rows = joining.store.rows
    open_ones = ~slots[PairVerdict.LEAK].filled[second] & (slots.rank[second] > 0) & (first != second)
    open_ones &= rows["question"][first] != rows["question"][second]
    first, second = first[open_ones], second[open_ones]
    yes_no = rows["yes_no"][second]
    found, values = [], []
    for at, (one, other, closed) in enumerate(zip(first.tolist(), second.tolist(), yes_no.tolist(), strict=True)):
        a, b = joining.form(one), joining.form(other)
        value = similarity(a, b)
        if says_enough(value, max(len(a.content), len(b.content)), closed, joining.question_similarity):
            found.append(at)
            values.append(value)
    slots.offer_copies(first[found], second[found], np.array(values, np.float32))


def _patients(joining: Joining, slots: Slots) -> None:
    patient = joining.store.column("patient").astype(np.uint64)
    rows = np.flatnonzero(patient).astype(np.uint32)
    for runs in joining.join("patient", patient[rows], rows).runs(slots.order):
        head = runs.firsts()
        across = slots.rank[head] < slots.rank[runs.rows]
        slots[PairVerdict.PATIENT_OVERLAP].offer(head[across], runs.rows[across])


def _same_pictures(joining: Joining, slots: Slots, group: NDArray[np.uint32]) -> None:
    """By each picture alone, so that one of several pictures counts too."""
    counts = joining.store.column("media_count").astype(np.int64)
    rows = np.repeat(np.arange(len(joining.store), dtype=np.uint32), counts)
    keys = group[joining.store.media[: len(rows)]].astype(np.uint64)
    settled = slots.copied() | slots[PairVerdict.CONFLICT].filled
    for runs in joining.join("picture", keys, rows).runs(slots.order):
        head = runs.firsts()
        other = (head != runs.rows) & (slots.rank[runs.rows] > 0) & ~settled[runs.rows]
        slots[PairVerdict.SAME_IMAGE].offer(head[other], runs.rows[other])
