"""MinHash of questions (``rensa``): for rows that agree in picture and answer but are too many to compare each with
each.

A visual question is shorter than the eight words that such filters usually take, so a question is the set of its
content words and of the four-letter pieces of their text. Of two short questions that share three quarters of these
98 % are found by 20 bands of 6, of two case reports that share nine tenths 99.9 % by 16 bands of 8; case reports
share a third by chance.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue] (a compiled module without stubs)

from residency.synthesis.duplicates.key_buckets import Keys, Rows, mixed
from residency.synthesis.duplicates.question_form import LONG, QuestionForm

PERMUTATIONS, SEED = 128, 7
SHORT_BANDS, LONG_BANDS = (20, 6), (16, 8)  # bands, permutations of each
PIECE = 4  # characters
MIN_JACCARD = 0.5
COMPARED_AT_ONCE = 50_000
Signatures = NDArray[np.uint32]


def shingles(form: QuestionForm) -> list[bytes]:
    """Content words and four-character pieces of their text."""
    text = form.text
    pieces = {text[at : at + PIECE].encode() for at in range(max(1, len(text) - PIECE + 1))}
    return sorted(pieces | {word.encode() for word in form.content})


def signatures(forms: Sequence[QuestionForm]) -> Signatures:
    """[N] questions → [N, PERMUTATIONS]."""
    digests = RMinHash.digest_matrix_from_token_byte_sets([shingles(form) for form in forms], PERMUTATIONS, SEED)
    return np.array(digests.to_rows(), np.uint32).reshape(len(forms), PERMUTATIONS)


def is_long(form: QuestionForm) -> bool:
    return len(form.content) >= LONG


def band_keys(signed: Signatures, shape: tuple[int, int]) -> Keys:
    """[N, PERMUTATIONS] → [N, bands] keys; equal keys in any band make two questions candidates."""
    bands, width = shape
    parts = signed[:, : bands * width].reshape(len(signed), bands, width).astype(np.uint64)
    keys = np.broadcast_to(np.arange(bands, dtype=np.uint64) + np.uint64(100 * width), (len(signed), bands)).copy()
    for number in range(width):
        keys = mixed(keys, parts[:, :, number])
    return keys


class SignatureFile:
    """Signatures by row on disk: what two candidates share is estimated without a look at their texts."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._path = folder / "signatures.bin"
        self._path.write_bytes(b"")
        self._place = np.zeros(rows, np.uint32)
        self._count = 0

    def add(self, rows: Rows, signed: Signatures) -> None:
        """Append; every row at most once."""
        with self._path.open("ab") as file:
            signed.tofile(file)
        self._place[rows] = np.arange(self._count, self._count + len(rows), dtype=np.uint32)
        self._count += len(rows)

    def alike(self, first: Rows, second: Rows) -> NDArray[np.bool_]:
        """Whether two rows share at least ``MIN_JACCARD`` of their shingles, by their signatures."""
        result = np.zeros(len(first), bool)
        if not self._count:
            return result
        signed = np.memmap(self._path, np.uint32, "r", shape=(self._count, PERMUTATIONS))
        for at in range(0, len(first), COMPARED_AT_ONCE):
            part = slice(at, at + COMPARED_AT_ONCE)
            equal = signed[self._place[first[part]]] == signed[self._place[second[part]]]
            result[part] = equal.mean(axis=1) >= MIN_JACCARD
        return result
