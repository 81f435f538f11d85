"""An append-only Arrow file: record batches behind each other, many rows for one sync, each batch found by its place.

    log = ArrowLog(folder, "answers-0001", SCHEMA)
    reference = log.append(batch)         # "answers-0001-00000.arrows@1480": durable after the next sync
    log.sync()
    batch = read_batch(folder, reference, SCHEMA)

The file is an Arrow IPC stream without its end mark, which readers do not need. A kill can tear only what was not
synced: nothing refers to it, and ``read_log`` stops before it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from residency.platform.errors import DataError, StorageError
from residency.platform.journal.segments import sync_folder
from residency.platform.journal.writer import as_storage_error

PART_BYTES = 64 << 20
SUFFIX = ".arrows"
RESTORE = "restore it, or start a new run: the journal counts on it"


class ArrowLog:
    """One writer's log, in parts of about ``part_bytes``. ``append`` and ``sync`` are not for two threads at once."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, part_bytes: int = PART_BYTES) -> None:
        self._folder, self._name, self._schema, self._part_bytes = folder, name, schema, part_bytes
        self._file, self._part, self._offset = -1, -1, 0
        self._path = folder
        self._unsynced = False

    def append(self, batch: pa.RecordBatch) -> str:
        """Writes a batch and returns its reference."""
        if self._file < 0 or self._offset >= self._part_bytes:
            self._begin()
        reference = f"{self._path.name}@{self._offset}"
        self._write(batch.serialize())
        return reference

    def sync(self) -> None:
        if self._unsynced:
            with as_storage_error(self._path):
                os.fsync(self._file)
            self._unsynced = False

    def close(self) -> None:
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1

    def _begin(self) -> None:
        self.close()
        self._part += 1
        self._path = self._folder / f"{self._name}-{self._part:05d}{SUFFIX}"
        with as_storage_error(self._path):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            sync_folder(self._folder)
        self._offset = 0
        self._write(self._schema.serialize())

    def _write(self, data: pa.Buffer) -> None:
        view = memoryview(data)
        self._unsynced = True
        with as_storage_error(self._path):
            while view:
                written = os.write(self._file, view)
                self._offset += written
                view = view[written:]


def read_batch(folder: Path, reference: str, schema: pa.Schema) -> pa.RecordBatch:
    """The batch of a reference; raises StorageError where it is gone or damaged."""
    name, _, offset = reference.rpartition("@")
    path = folder / name
    try:
        with pa.OSFile(str(path), "rb") as source:
            source.seek(int(offset))
            return pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)
    except (OSError, EOFError, ValueError, pa.ArrowInvalid) as error:
        raise StorageError(f"{path} cannot be read at {offset}: {error}", "the batch as written", RESTORE) from error


def read_log(folder: Path, kind: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """All whole batches of all lives of a log (``kind`` is its name before the dash), in the order of writing."""
    for path in sorted(folder.glob(f"{kind}-*{SUFFIX}")):
        yield from read_part(path, columns)


def read_part(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The whole batches of one file, up to its end or to where a kill tore it."""
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError):
            return  # torn while it was made
        absent = [name for name in columns or () if name not in reader.schema.names]
        if absent:
            raise DataError(f"{path} lacks the columns {absent}", "a log of this version", "start a new run")
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
            except (pa.ArrowInvalid, OSError):
                return  # the torn end of a life that was killed
            yield batch.select(columns) if columns else batch
