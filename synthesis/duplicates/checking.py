"""Duplicates within a dataset and its overlap with benchmarks: items in, a folder with the report and the pairs out.

``<out>/report.json``, ``<out>/report.md``, ``<out>/pairs.parquet`` (every listed pair) and ``<out>/review.csv`` (the
same, to be overruled). Memory does not hold the items: about 150 bytes a row and 150 a picture, the rest lies on disk
while it runs.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from residency.platform.gates_config import DuplicatesConfig
from residency.platform.media_store import MediaStore
from residency.platform.records import Item
from residency.synthesis.duplicates.item_keys import hash64, item_keys
from residency.synthesis.duplicates.matching import Joining, match, scenes
from residency.synthesis.duplicates.overrules import Listed, Overrule, write_review_list
from residency.synthesis.duplicates.pairs import (
    BENCHMARK_PREFIX,
    Agreement,
    Pair,
    PairVerdict,
    default_decision,
    overruled,
)
from residency.synthesis.duplicates.pictures import PictureGroups, PictureIndex
from residency.synthesis.duplicates.report import DuplicateReport, Tally, write_report
from residency.synthesis.duplicates.row_store import RANKS, RowStore
from residency.synthesis.duplicates.slots import NOBODY, Slots

ROWS_A_BUCKET = 250_000
PAIRS_AT_ONCE = 10_000
PAIR_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("first", pa.string()), ("first_side", pa.string()), ("second", pa.string()),
        ("second_side", pa.string()), ("verdict", pa.string()), ("agreements", pa.list_(pa.string())),
        ("similarity", pa.float32()), ("hash_distance", pa.int16()), ("decision", pa.string()),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """Items with the store of their media; ``name`` is the benchmark's, or the dataset's."""

    name: str
    items: Iterable[Item]
    media: MediaStore


def check_duplicates(
    data: Compared,
    benchmarks: Sequence[Compared],
    out: Path,
    config: DuplicatesConfig,
    reviewed: Mapping[str, Overrule] | None = None,
) -> DuplicateReport:
    """Compare the data with itself and with the benchmarks; write the report; say which items are to be left out.

    The items are read once, as a stream. ``reviewed`` are decisions of people (``read_overrules``), which stand above
    ours.
    """
    reviewed = reviewed or {}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".work-") as name:
        folder = Path(name)
        store, pictures = RowStore(folder), PictureIndex(folder)
        for benchmark in benchmarks:
            _add(benchmark, store, pictures, f"{BENCHMARK_PREFIX}{benchmark.name}")
        _add(data, store, pictures, None)
        store.finish()
        groups = pictures.grouped(config)
        buckets = 1 + len(store) // ROWS_A_BUCKET
        joining = Joining(store, scenes(store, groups.group), folder, buckets, config.question_similarity)
        slots = match(joining, groups.group)
        tally = Tally()
        listed = _listed(store, slots, groups, reviewed, config.within_split)
        for row in _to_parquet(out / "pairs.parquet", write_review_list(out / "review.csv", listed, reviewed)):
            tally.add(row, row.pair.id in reviewed)
        kept = int(slots[PairVerdict.SAME_IMAGE].filled.sum())
        sides = np.bincount(store.column("side").astype(np.int64), minlength=len(store.sides))
        return write_report(
            out,
            tally,
            data.name,
            {side: int(count) for side, count in zip(store.sides, sides, strict=True)},
            {
                "distinct": len(pictures),
                "after_copies": len(np.unique(groups.group)),
                "near_pairs": groups.near,
                "unreadable": groups.unreadable,
            },
            kept,
            len(set(reviewed) - tally.ids),
            config,
        )


def _add(compared: Compared, store: RowStore, pictures: PictureIndex, side: str | None) -> None:
    for item in compared.items:
        numbers = tuple(pictures.number(key, compared.media) for key in item.media)
        media_key = hash64(item.media)
        rank = 0 if side else RANKS[item.split]
        store.add(item, item_keys(item), numbers, media_key, side or item.split.value, rank)


def _listed(
    store: RowStore, slots: Slots, groups: PictureGroups, reviewed: Mapping[str, Overrule], within_split: bool
) -> Iterator[Listed]:
    """Every pair but those that are normal: several questions about one picture on one side are only counted."""
    decisions = {key: overrule.decision for key, overrule in reviewed.items()}
    for verdict, slot in slots.by_verdict.items():
        rows = np.flatnonzero(slot.filled).astype(np.uint32)
        if verdict is PairVerdict.SAME_IMAGE:
            rows = rows[slots.rank[slot.partner[rows]] != slots.rank[rows]]
        for row in rows.tolist():
            first = int(slot.partner[row])
            assert first != NOBODY
            pair = _pair(store, groups, verdict, first, row, float(slot.similarity[row]), within_split)
            yield Listed(
                pair=next(overruled((pair,), decisions)),
                first_question=store.question(first),
                first_answer=store.answer(first),
                second_question=store.question(row),
                second_answer=store.answer(row),
            )


def _pair(
    store: RowStore,
    groups: PictureGroups,
    verdict: PairVerdict,
    first: int,
    row: int,
    similarity: float,
    within_split: bool,
) -> Pair:
    one, other = store.rows[first], store.rows[row]
    agreements: list[Agreement] = []
    if one["content"] == other["content"]:
        agreements.append(Agreement.CONTENT)
    ours, theirs = store.pictures(row), store.pictures(first)
    bits: int | None = None
    if len(ours) and one["media_key"] == other["media_key"]:
        agreements.append(Agreement.IMAGES)
        bits = 0
    elif shared := _shared(groups, theirs, ours):
        agreements.append(Agreement.SIMILAR_IMAGES)
        bits = max(groups.distance(a, b) for a, b in shared)
    if one["question"] == other["question"]:
        agreements.append(Agreement.QUESTION)
    elif verdict in (PairVerdict.LEAK, PairVerdict.DUPLICATE):
        agreements.append(Agreement.SIMILAR_QUESTION)
    if one["answer"] == other["answer"]:
        agreements.append(Agreement.ANSWER)
    if one["patient"] and one["patient"] == other["patient"]:
        agreements.append(Agreement.PATIENT)
    first_side = store.sides[int(one["side"])]
    return Pair(
        first=store.id(first),
        first_side=first_side,
        second=store.id(row),
        second_side=store.sides[int(other["side"])],
        verdict=verdict,
        agreements=tuple(agreements),
        similarity=similarity,
        hash_distance=bits,
        decision=default_decision(verdict, first_side, within_split),
    )


def _shared(groups: PictureGroups, theirs: np.ndarray, ours: np.ndarray) -> list[tuple[int, int]]:
    """Numbers of pictures that belong to one group, each of ours with the first of theirs."""
    by_group = {int(groups.group[number]): int(number) for number in theirs[::-1]}
    return [(by_group[group], int(number)) for number in ours if (group := int(groups.group[number])) in by_group]


def _to_parquet(path: Path, listed: Iterable[Listed]) -> Iterator[Listed]:
    """Write the pairs in row groups while they pass through."""
    aside = path.with_name(f".{path.name}.partial")
    stream = iter(listed)
    with pq.ParquetWriter(aside, PAIR_SCHEMA) as writer:
        while part := list(islice(stream, PAIRS_AT_ONCE)):
            rows = [asdict(each.pair) | {"id": each.pair.id} for each in part]
            writer.write_table(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA))
            yield from part
    aside.replace(path)
