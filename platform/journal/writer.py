"""The end of the journal: appends frames to the open segment, seals it and begins the next."""

import errno
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from residency.platform.errors import ResidencyError, RunInUseError, StorageError
from residency.platform.journal.frames import FILE_MAGIC, pack
from residency.platform.journal.records import Record
from residency.platform.journal.segments import Scan, Seal, file_digest, seal_path, segment_name, sync_folder


@contextmanager
def as_storage_error(path: Path) -> Iterator[None]:
    """Any failure of the disk as a StorageError that names the file; the journal before it stays readable."""
    try:
        yield
    except ResidencyError:
        raise  # some of ours are OSErrors too, and say more
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        raise StorageError(
            f"{path} could not be written: {os.strerror(error.errno or 0)} ({name})",
            "a writable disk with free space",
            "free some space and start the same command again: it goes on from the last commit",
        ) from error


class SegmentWriter:
    """Appends to the last segment of ``folder``. Not for several threads at once: its owner holds a lock."""

    def __init__(self, folder: Path, number: int, first: int) -> None:
        self._folder = folder
        self._begin(number, first)

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._began if self.count else 0.0

    @property
    def next_record(self) -> int:
        return self._first + self.count

    def append(self, records: Sequence[Record]) -> None:
        """One frame, durable when this returns. Raises StorageError; the file then ends with its last whole frame."""
        with as_storage_error(self.path):
            if self._file < 0:
                self._open()
            frame = pack(records, self.next_record, time.time())
            try:
                _write_all(self._file, frame)
                os.fsync(self._file)
            except OSError:
                # give the space of the half frame back; where that fails too, the next start cuts it off
                os.ftruncate(self._file, self.num_bytes)
                raise
        self._digest.update(frame)
        self.num_bytes += len(frame)
        self.count += len(records)

    def seal(self) -> Seal | None:
        """Closes the segment and begins another with the next append; None where nothing is in it."""
        if not self.count:
            return None
        with as_storage_error(self.path):
            seal = write_seal(self.path, self._first, self.count, self.num_bytes, self._digest.hexdigest())
        self.close()
        self._begin(self._number + 1, self.next_record)
        return seal

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self, number: int, first: int) -> None:
        self.path = self._folder / segment_name(number)
        self.num_bytes, self.count = 0, 0
        self._number, self._first = number, first
        self._digest = hashlib.sha256()
        self._file = -1
        self._began = time.monotonic()

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        _write_all(self._file, FILE_MAGIC)
        sync_folder(self._folder)
        self._digest.update(FILE_MAGIC)
        self.num_bytes = len(FILE_MAGIC)
        self._began = time.monotonic()


def write_seal(path: Path, first: int, count: int, num_bytes: int, sha256: str) -> Seal:
    """The seal beside a segment: written aside, synced, then linked, so that it is whole or not there.

    Raises RunInUseError where it has one: then another driver has taken this one for dead, and the first seal holds.
    """
    seal = Seal(name=path.name, first=first, count=count, num_bytes=num_bytes, sha256=sha256)
    aside = path.with_suffix(f".sealing-{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(msgspec.json.encode(seal))
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, seal_path(path))
    except FileExistsError as error:
        raise RunInUseError(
            f"{path} was sealed by another driver", "one driver for a run", "stop this driver: the other one goes on"
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)
    return seal


def settle_last(scan: Scan) -> bool:
    """Cuts the torn end off a dead driver's segment and seals it; a segment without a record is removed.

    Returns whether the segment is still there. So a driver never writes into the file of another: should that one
    live after all, its late bytes fall behind the sealed end, where nobody reads them.
    """
    if scan.seal is not None:
        return True
    with as_storage_error(scan.path):
        if scan.count == 0:
            scan.path.unlink()
            sync_folder(scan.path.parent)
            return False
        if scan.torn_bytes:
            os.truncate(scan.path, scan.num_bytes)
        with scan.path.open("rb+") as file:
            os.fsync(file.fileno())
        write_seal(scan.path, scan.first, scan.count, scan.num_bytes, file_digest(scan.path))
    return True


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
