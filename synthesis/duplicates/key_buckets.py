"""A join on disk: (64-bit key, row) entries in bucket files, read back one bucket at a time, equal keys together.

Memory holds one bucket: with B buckets and n entries 12·n/B bytes, twice that while it is sorted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Rows = NDArray[np.uint32]
ENTRY = np.dtype([("key", "<u8"), ("row", "<u4")])
MIXER = np.uint64(0x9E3779B97F4A7C15)


def mixed(first: Keys, second: Keys) -> Keys:
    """One key out of two; not symmetric."""
    with np.errstate(over="ignore"):
        x = first * MIXER + second
        x ^= x >> np.uint64(29)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(32)
    return x


@dataclass(frozen=True, slots=True)
class Runs:
    """Entries sorted by key, then by ``order``: run i is ``rows[starts[i]:starts[i + 1]]``."""

    keys: Keys
    rows: Rows
    starts: NDArray[np.int64]  # one more than there are runs

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def firsts(self) -> Rows:
        """For every entry the first row of its run."""
        return np.repeat(self.rows[self.starts[:-1]], self.sizes)

    def pairs(self, at_most: int) -> Iterator[tuple[Rows, Rows]]:
        """Every (earlier, later) pair within runs of at most so many entries, in pieces of bounded size."""
        sizes = self.sizes
        for size in np.unique(sizes[(sizes > 1) & (sizes <= at_most)]):
            begins = self.starts[:-1][sizes == size]
            early, late = np.triu_indices(int(size), k=1)
            step = max(1, PIECE // len(early))
            for at in range(0, len(begins), step):
                base = begins[at : at + step, None]
                yield self.rows[(base + early).ravel()], self.rows[(base + late).ravel()]


PIECE = 1_000_000  # pairs in one piece


def runs_of(keys: Keys, rows: Rows, order: NDArray[np.uint32] | None = None) -> Runs:
    """Sort entries by key and, within a key, by ``order[row]`` (by row where there is none)."""
    rank = rows if order is None else order[rows]
    by = np.lexsort((rank, keys))
    keys, rows = keys[by], rows[by]
    changes = np.flatnonzero(keys[1:] != keys[:-1]) + 1 if len(keys) else np.zeros(0, np.int64)
    starts = np.concatenate(([0], changes, [len(keys)])) if len(keys) else np.zeros(1, np.int64)
    return Runs(keys, rows, starts.astype(np.int64))


class KeyBuckets:
    """Entries of one join, in files ``<name>-<bucket>.bin`` below a folder."""

    def __init__(self, folder: Path, name: str, buckets: int = 16) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = [folder / f"{name}-{number:03}.bin" for number in range(buckets)]
        for path in self.paths:
            path.unlink(missing_ok=True)

    def add(self, keys: Keys, rows: Rows) -> None:
        """Append entries; a key always goes to the same bucket."""
        entries = np.empty(len(keys), ENTRY)
        entries["key"], entries["row"] = keys, rows
        where = (mixed(keys, np.full_like(keys, MIXER)) % np.uint64(len(self.paths))).astype(np.uint8)
        by = np.argsort(where, kind="stable")
        entries, edges = entries[by], np.searchsorted(where[by], np.arange(len(self.paths) + 1))
        for number, path in enumerate(self.paths):
            part = entries[edges[number] : edges[number + 1]]
            if len(part):
                with path.open("ab") as file:
                    part.tofile(file)

    def runs(self, order: NDArray[np.uint32] | None = None) -> Iterator[Runs]:
        """Bucket after bucket, sorted; the file of a bucket is removed when it has been read."""
        for path in self.paths:
            if path.exists():
                entries = np.fromfile(path, ENTRY)
                path.unlink()
                yield runs_of(entries["key"].copy(), entries["row"].copy(), order)


def matches(left: Keys, right: Keys, piece: int = PIECE) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions (i, j) with ``left[i] == right[j]``, in pieces; ``right`` must be sorted."""
    low, high = np.searchsorted(right, left, "left"), np.searchsorted(right, left, "right")
    counts = high - low
    ends = np.cumsum(counts)
    at = 0
    while at < len(left):
        done = ends[at - 1] if at else 0
        stop = max(at + 1, int(np.searchsorted(ends, done + piece, "right")))
        number = counts[at:stop]
        i = np.repeat(np.arange(at, stop), number)
        offsets = np.arange(len(i)) - np.repeat(np.cumsum(number) - number, number)
        yield i, low[i] + offsets
        at = stop
