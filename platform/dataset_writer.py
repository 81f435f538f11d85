"""A dataset folder written item by item: memory does not grow with rows, and no split is cut through a unit.

Items go to ``items.parquet`` in row groups. What has been seen (ids, clusters, patients, contents, images, names of
pictures) and the rows in the order of their ids, which the content hash wants, stand in an SQLite file that goes when
all is whole.
"""

import errno
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from residency.platform.arrow_tables import SCHEMAS, to_table
from residency.platform.dataset_folder import CARD_FILE, ITEMS_FILE, MEDIA_FOLDER, DatasetCard
from residency.platform.errors import DataError, StorageError
from residency.platform.media_store import MediaStore
from residency.platform.records import Item, Split

ROWS_IN_GROUP = 2000
CACHE_KIBIBYTES = 32 * 1024
LEDGER_FILE = ".ledger.sqlite"
COLUMNS = [column.name for column in SCHEMAS[Item]]
LISTS = [column.name for column in SCHEMAS[Item] if pa.types.is_list(column.type)]


@dataclass(frozen=True, slots=True)
class Clash:
    """Why an item was not taken: ``reason`` is counted, ``detail`` names what it clashes with."""

    reason: str
    detail: str


class DatasetWriter:
    """Use as a context: without ``seal`` nothing is left behind.

    ``media`` is where images are put before the item that names them is added.
    """

    def __init__(self, out: Path) -> None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DataError(f"{out} exists already", "a new folder", "choose another one, or remove it")
        self.out, self._aside = out, out.with_name(f"{out.name}.partial")
        with self._disk():
            shutil.rmtree(self._aside, ignore_errors=True)  # left by a process that was killed
            self.media = MediaStore(self._aside / MEDIA_FOLDER)
            self.media.root.mkdir(parents=True)
            self._ledger = sqlite3.connect(self._aside / LEDGER_FILE, isolation_level=None)
            for line in (
                "PRAGMA journal_mode=OFF",  # a broken import starts over: nothing here is worth a log
                "PRAGMA synchronous=OFF",
                f"PRAGMA cache_size=-{CACHE_KIBIBYTES}",
                "CREATE TABLE unit (kind TEXT, key TEXT, split TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID",
                "CREATE TABLE picture (name BLOB, key TEXT, PRIMARY KEY (name)) WITHOUT ROWID",
                f"CREATE TABLE item ({', '.join(COLUMNS)}, PRIMARY KEY (id)) WITHOUT ROWID",
                "BEGIN",
            ):
                self._ledger.execute(line)
            self._parquet = pq.ParquetWriter(self._aside / ITEMS_FILE, SCHEMAS[Item])
        self._waiting: list[Item] = []
        self.num_items = self.num_repeats = 0

    def add(self, item: Item) -> Clash | None:
        """Take the item, or say why not: its id was there, or something of it lies in another split already.

        Images that no item taken so far shows leave the disk with it. Raises DataError for an image that was not put.
        """
        absent = [key for key in item.media if key not in self.media]
        if absent:
            raise DataError(f"item {item.id} names the image {absent[0]}, which was not given")
        with self._disk():
            clash = self._clash(item)
            if clash is not None:
                self.drop_unused(item.media)
                return clash
            self.num_repeats += self._split_of("content", item.content_key) is not None
            self._ledger.executemany(
                "INSERT OR IGNORE INTO unit VALUES (?, ?, ?)",
                [(kind, key, item.split.value) for kind, key in (("id", item.id), *units(item))],
            )
            self._waiting.append(item)
            self.num_items += 1
            if len(self._waiting) == ROWS_IN_GROUP:
                self._flush()
        return None

    def picture_of(self, name: str) -> str | None:
        """The hash of the image that was noted under this name (a file, or a digest of what was read)."""
        row = self._ledger.execute("SELECT key FROM picture WHERE name = ?", (short_hash(name),)).fetchone()
        return row[0] if row else None

    def note_picture(self, name: str, key: str) -> None:
        with self._disk():
            self._ledger.execute("INSERT OR REPLACE INTO picture VALUES (?, ?)", (short_hash(name), key))

    def drop_unused(self, keys: Iterable[str]) -> None:
        """Remove those images that no item taken so far shows."""
        for key in keys:
            if self._split_of("image", key) is None:
                self.media.path(key).unlink(missing_ok=True)

    def seal(self, card: DatasetCard) -> DatasetCard:
        """Finish the folder and give it its name; returns the card with counts and content hash filled in."""
        with self._disk():
            self._flush()
            self._parquet.close()
            full = replace(
                card, counts=self._count("id"), clusters=self._count("cluster"), content_hash=self._content_hash()
            )
            self._ledger.close()
            (self._aside / LEDGER_FILE).unlink()
            fields = asdict(full) | {"skipped": dict(full.skipped)}
            (self._aside / CARD_FILE).write_text(
                yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8"
            )
            if self.out.exists():
                self.out.rmdir()
            self._aside.rename(self.out)
        return full

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._aside.exists():  # not sealed
            self._parquet.close()
            self._ledger.close()
            shutil.rmtree(self._aside, ignore_errors=True)

    def _clash(self, item: Item) -> Clash | None:
        if self._split_of("id", item.id) is not None:
            return Clash("an earlier row has its key", item.id)
        for kind, key in units(item):
            other = self._split_of(kind, key)
            if other not in (None, item.split.value):
                return Clash(f"its {kind} lies in another split", f"{key} of {item.split.value} was in {other} before")
        return None

    def _split_of(self, kind: str, key: str) -> str | None:
        row = self._ledger.execute("SELECT split FROM unit WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return row[0] if row else None

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = to_table(self._waiting, Item)
        self._parquet.write_table(table, row_group_size=ROWS_IN_GROUP)
        columns = [table.column(name).to_pylist() for name in COLUMNS]
        for position, name in enumerate(COLUMNS):
            if name in LISTS:
                columns[position] = [json.dumps(value) for value in columns[position]]
        marks = ", ".join("?" * len(COLUMNS))
        self._ledger.executemany(f"INSERT INTO item VALUES ({marks})", zip(*columns, strict=True))
        self._waiting.clear()

    def _count(self, kind: str) -> dict[str, int]:
        counts = dict(
            self._ledger.execute("SELECT split, COUNT(*) FROM unit WHERE kind = ? GROUP BY split", (kind,)).fetchall()
        )
        return {split.value: counts.get(split.value, 0) for split in Split}

    def _content_hash(self) -> str:
        """``dataset_folder.content_hash`` of the same items, a value at a time."""
        digest = hashlib.sha256()
        for name in COLUMNS:
            digest.update(f"{name}=[".encode())
            for position, (value,) in enumerate(self._ledger.execute(f"SELECT {name} FROM item ORDER BY id")):
                written = json.loads(value) if name in LISTS else value
                digest.update(f"{', ' if position else ''}{written!r}".encode())
            digest.update(b"]\n")
        return digest.hexdigest()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """A disk that cannot take the folder is a StorageError that names it."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
            if full or "disk" in str(error):
                raise StorageError(
                    f"cannot write {self.out}: {error}", "room on the disk", "free some space, or write elsewhere"
                ) from error
            raise


def short_hash(text: str) -> bytes:
    """Twenty bytes in place of a text of any length, whatever is in it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:20]


def units(item: Item) -> list[tuple[str, str]]:
    """What must not lie in two splits: the cluster, the patient, each image, and the question with its media."""
    found = [("cluster", item.cluster), ("content", item.content_key), *(("image", key) for key in item.media)]
    return found if item.patient_id is None else [*found, ("patient", item.patient_id)]
