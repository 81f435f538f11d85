"""A dataset on disk: ``items.parquet``, ``media/`` and the card ``dataset.yaml``; written aside, then renamed."""

import errno
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from residency.platform.arrow_tables import (
    SCHEMA_VERSION,
    SCHEMAS,
    check_schema_version,
    from_table,
    read_parquet,
    to_table,
    write_parquet,
)
from residency.platform.errors import DataError, StorageError
from residency.platform.media_store import MediaStore
from residency.platform.records import Item, Split

ITEMS_FILE, MEDIA_FOLDER, CARD_FILE = "items.parquet", "media", "dataset.yaml"
ROWS_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetCard:
    """What ``dataset.yaml`` says.

    ``counts`` holds rows by split, ``clusters`` independent units by split, ``splits`` how the splits were made,
    ``skipped`` what was left out by reason, ``note`` what a reader must know before quoting a number.
    """

    name: str
    source: str
    licence: str
    splits: str
    note: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    clusters: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    content_hash: str = ""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset that was read: its items, its media and its card."""

    items: tuple[Item, ...]
    media: MediaStore
    card: DatasetCard

    def split(self, split: Split) -> tuple[Item, ...]:
        """The items of one split, in the file's order."""
        return tuple(item for item in self.items if item.split == split)


def content_hash(items: Iterable[Item]) -> str:
    """SHA-256 over all items sorted by id, media hashes included: equal data give equal hashes, whatever the order."""
    table = to_table(sorted(items, key=lambda item: item.id), Item)
    digest = hashlib.sha256()
    for name in table.column_names:
        digest.update(f"{name}={table.column(name).to_pylist()!r}\n".encode())
    return digest.hexdigest()


def check_items(items: Sequence[Item]) -> None:
    """Raise DataError for repeated ids, or for a cluster, patient or question with media that lies in two splits."""
    repeated = [key for key, count in Counter(item.id for item in items).items() if count > 1]
    if repeated:
        raise DataError(f"{len(repeated)} item ids occur more than once (first: {repeated[0]})", "one row for each id")
    for name in ("cluster", "patient_id", "content_key"):
        seen: dict[str, Split] = {}
        for item in items:
            key = getattr(item, name)
            first = item.split if key is None else seen.setdefault(key, item.split)
            if first != item.split:
                raise DataError(
                    f"{name} {key!r} lies in the splits {first} and {item.split}",
                    "each in one split",
                    "split by patient, study or source image",
                )


def _count(items: Iterable[Item], unit: Callable[[Item], str]) -> dict[str, int]:
    units = {(item.split, unit(item)) for item in items}
    return {str(split): sum(1 for s, _ in units if s == split) for split in Split}


def write_dataset(out: Path, items: Sequence[Item], pngs: Iterable[bytes], card: DatasetCard) -> Path:
    """Write a whole dataset folder: aside as ``<out>.partial``, then renamed, so that half a dataset never looks whole.

    Counts and content hash of the card are filled in here. Raises DataError where ``out`` exists and is not empty,
    where an item breaks a rule of ``check_items`` or names an image that was not given; StorageError on a full disk.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists already", "a new folder", "choose another one, or remove it")
    check_items(items)
    aside = out.with_name(f"{out.name}.partial")
    try:
        if aside.exists():
            shutil.rmtree(aside)  # left by a process that was killed
        store = MediaStore(aside / MEDIA_FOLDER)
        store.root.mkdir(parents=True)
        stored = {store.put_png(png) for png in pngs}
        absent = sorted({key for item in items for key in item.media} - stored)
        if absent:
            raise DataError(f"{len(absent)} images that items name were not given (first: {absent[0]})")
        write_parquet(to_table(items, Item), aside / ITEMS_FILE)
        full = asdict(card) | {
            "counts": _count(items, lambda item: item.id),
            "clusters": _count(items, lambda item: item.cluster),
            "content_hash": content_hash(items),
            "skipped": dict(card.skipped),
        }
        (aside / CARD_FILE).write_text(yaml.safe_dump(full, sort_keys=False, allow_unicode=True, width=110))
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StorageError(
                f"cannot write {out}: {error.strerror}", "room on the disk", "free some space, or write elsewhere"
            ) from error
        raise
    except DataError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return out


def write_part(out: Path, source: Path, kept: Collection[str], skipped: Mapping[str, int]) -> DatasetCard:
    """A dataset folder with those items of another whose ids are ``kept``; its media are a link to the other's.

    ``out`` is replaced where it is there. ``skipped`` (reason → items) is added to what the card says was left out.
    Raises DataError where a split that had items has none left; StorageError on a full disk.
    """
    card = read_card(source)
    aside = out.with_name(f"{out.name}.partial")
    try:
        for folder in (aside, out):
            shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
        aside.mkdir(parents=True)
        counts, clusters = _copy_kept(source / ITEMS_FILE, aside / ITEMS_FILE, kept)
        if emptied := [name for name, number in card.counts.items() if number and not counts[name]]:
            shutil.rmtree(aside)
            reasons = "; ".join(f"{reason}: {number}" for reason, number in skipped.items())
            raise DataError(
                f"nothing is left of the split {', '.join(emptied)} of {card.name} ({reasons})",
                "items in each split that had some",
                "look at the lists in the run's lineage/ and overrule what you know better, or change data.gates and"
                " data.duplicates",
            )
        full = replace(
            card,
            counts=counts,
            clusters=clusters,
            content_hash=file_hash(aside / ITEMS_FILE),
            skipped={**card.skipped, **skipped},
        )
        (aside / MEDIA_FOLDER).symlink_to(os.path.relpath(source / MEDIA_FOLDER, out), target_is_directory=True)
        (aside / CARD_FILE).write_text(yaml.safe_dump(asdict(full), sort_keys=False, allow_unicode=True, width=110))
        aside.rename(out)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StorageError(
                f"cannot write {out}: {error.strerror}", "room on the disk", "free some space, or write elsewhere"
            ) from error
        raise
    return full


def _copy_kept(source: Path, out: Path, kept: Collection[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Copies rows without making records of them; returns rows and clusters by split."""
    rows = Counter[str]()
    clusters: dict[str, set[str]] = {str(split): set() for split in Split}
    with pq.ParquetFile(source) as file, pq.ParquetWriter(out, file.schema_arrow) as writer:
        check_schema_version(file.schema_arrow.metadata, str(source))
        for batch in file.iter_batches(ROWS_AT_ONCE):
            chosen = batch.filter(pa.array([key in kept for key in batch.column("id").to_pylist()], pa.bool_()))
            for split, cluster in zip(
                chosen.column("split").to_pylist(), chosen.column("cluster").to_pylist(), strict=True
            ):
                rows[split] += 1
                clusters[split].add(cluster)
            writer.write_batch(chosen)
    return {split: rows[split] for split in clusters}, {split: len(found) for split, found in clusters.items()}


def file_hash(place: Path) -> str:
    """``content_hash`` of the items in a file, one column in memory at a time."""
    digest = hashlib.sha256()
    with pq.ParquetFile(place) as file:
        order = np.argsort(file.read(["id"]).column("id").to_numpy(), kind="stable")
        for name in SCHEMAS[Item].names:
            column = file.read([name]).column(0).take(order)
            digest.update(f"{name}=[".encode())
            for at in range(0, len(column), ROWS_AT_ONCE):
                part = ", ".join(map(repr, column.slice(at, ROWS_AT_ONCE).to_pylist()))
                digest.update(f"{', ' if at else ''}{part}".encode())
            digest.update(b"]\n")
    return digest.hexdigest()


def read_card(path: Path) -> DatasetCard:
    """The card of a dataset folder; raises DataError where it is missing, unreadable or newer than this code."""
    place = path / CARD_FILE
    try:
        raw: Any = yaml.safe_load(place.read_text())
    except FileNotFoundError:
        raise DataError(
            f"{path} holds no {CARD_FILE}",
            "a dataset folder",
            f"make one with `residency import` ({path.name}.partial, if there is one, was left by a broken import)",
        ) from None
    except yaml.YAMLError as error:
        raise DataError(f"{place} is not YAML: {' '.join(str(error).split())}") from error
    known = {f.name for f in fields(DatasetCard)}
    if not isinstance(raw, dict) or not {"name", "content_hash", "schema_version"} <= set(raw):
        raise DataError(f"{place} is no dataset card", "the keys name, content_hash, schema_version, …")
    if not isinstance(raw["schema_version"], int) or raw["schema_version"] > SCHEMA_VERSION:
        raise DataError(
            f"{place} has schema_version {raw['schema_version']}",
            f"at most {SCHEMA_VERSION}",
            "upgrade Residency, or import the dataset again",
        )
    unknown = sorted(set(raw) - known)
    if unknown:
        raise DataError(f"{place} has the unknown keys {unknown}", f"the keys {sorted(known)}")
    try:
        return DatasetCard(**raw)
    except TypeError as error:
        raise DataError(f"{place} lacks keys: {error}", f"the keys {sorted(known)}") from error


def read_dataset(path: Path) -> Dataset:
    """Items, media and card of a dataset folder.

    Raises DataError where a part is missing, an item names an image that is not there or that lies outside the media
    folder, or the items are not those the card's content hash was taken of.
    """
    card = read_card(path)
    items = tuple(read_parquet(path / ITEMS_FILE, Item))
    seen = content_hash(items)
    if seen != card.content_hash:
        raise DataError(
            f"{path / ITEMS_FILE} has the content hash {seen[:12]}…",
            f"{card.content_hash[:12]}…, as {CARD_FILE} says",
            "restore the file, or import the dataset again",
        )
    media = MediaStore(path / MEDIA_FOLDER)
    absent = sorted({key for item in items for key in item.media if key not in media})
    if absent:
        raise DataError(
            f"{len(absent)} images of {path} are missing (first: {media.path(absent[0])})",
            "every image an item names",
            "restore them, or import the dataset again",
        )
    return Dataset(items, media, card)


def stream_items(path: Path) -> Iterator[Item]:
    """The items of a dataset folder in the file's order, a few at a time; neither hash nor images are checked."""
    place = path / ITEMS_FILE
    try:
        with pq.ParquetFile(place) as file:
            check_schema_version(file.schema_arrow.metadata, str(place))
            for batch in file.iter_batches(ROWS_AT_ONCE):
                yield from from_table(pa.Table.from_batches([batch]), Item)
    except FileNotFoundError:
        raise DataError(f"{path} holds no {ITEMS_FILE}", "a dataset folder", "import the dataset again") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{place} cannot be read ({error})", "the file as it was written", "import it again") from error
