"""For each row and verdict the best partner found so far: plain arrays, 14 bytes a row and verdict."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from residency.synthesis.duplicates.key_buckets import Rows
from residency.synthesis.duplicates.pairs import PairVerdict

NOBODY = np.uint32(0xFFFFFFFF)


class Slot:
    """``partner[row]`` (NOBODY where there is none), with the similarity of the questions."""

    def __init__(self, rows: int) -> None:
        self.partner = np.full(rows, NOBODY, np.uint32)
        self.similarity = np.zeros(rows, np.float32)

    def offer(self, partners: Rows, rows: Rows, similarity: float | NDArray[np.float32] = 1.0) -> None:
        """Keep the first offer for each row: the surest evidence is offered first."""
        free = self.partner[rows] == NOBODY
        rows, partners = rows[free], partners[free]
        values = similarity[free] if isinstance(similarity, np.ndarray) else np.full(len(rows), similarity, np.float32)
        # of several offers in one call the last assignment wins, so the first is put last
        self.partner[rows[::-1]] = partners[::-1]
        self.similarity[rows[::-1]] = values[::-1]

    @property
    def filled(self) -> NDArray[np.bool_]:
        return self.partner != NOBODY


class Slots:
    """All verdicts' slots; ``order`` puts stricter sides first, then earlier rows; ``rank`` is the side's
    strictness."""

    def __init__(self, rank: NDArray[np.uint8]) -> None:
        self.rank = rank
        by = np.lexsort((np.arange(len(rank)), rank))
        self.order = np.empty(len(rank), np.uint32)
        self.order[by] = np.arange(len(rank), dtype=np.uint32)
        self.by_verdict: Mapping[PairVerdict, Slot] = {verdict: Slot(len(rank)) for verdict in PairVerdict}

    def __getitem__(self, verdict: PairVerdict) -> Slot:
        return self.by_verdict[verdict]

    def offer_copies(self, first: Rows, second: Rows, similarity: float | NDArray[np.float32] = 1.0) -> None:
        """The same question and answer twice: a leak across ranks, else a duplicate; rows of benchmarks are let be."""
        ours = (first != second) & (self.rank[second] > 0)
        across = ours & (self.rank[first] < self.rank[second])
        for verdict, chosen in ((PairVerdict.LEAK, across), (PairVerdict.DUPLICATE, ours & ~across)):
            values = similarity[chosen] if isinstance(similarity, np.ndarray) else similarity
            self[verdict].offer(first[chosen], second[chosen], values)

    def copied(self) -> NDArray[np.bool_]:
        """Rows that are a leak or a duplicate."""
        return self[PairVerdict.LEAK].filled | self[PairVerdict.DUPLICATE].filled
