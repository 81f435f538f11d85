"""Segments on disk: ``segment-00000001.log`` …, each but the last with its seal (name, count, size, digest)."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from residency.platform.errors import DataError
from residency.platform.journal.frames import FILE_MAGIC, Frame, unpack, written_behind

RESTORE = "restore the journal from its mirror, or start a new run"


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """A finished segment: never written again. ``first`` is the number of its first record in the journal."""

    name: str
    first: int
    count: int
    num_bytes: int
    sha256: str


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """How far one segment is whole. ``torn_bytes`` stand behind its last whole frame, from an unfinished commit."""

    path: Path
    first: int
    count: int
    num_bytes: int
    torn_bytes: int
    seal: Seal | None


def segment_name(number: int) -> str:
    return f"segment-{number:08d}.log"


def segment_paths(folder: Path) -> list[Path]:
    """Segments in order; raises DataError where one between the first and the last, or a sealed one, is missing."""
    names = {path.name for path in folder.glob("segment-*") if re.fullmatch(r"segment-\d{8}\.(log|seal)", path.name)}
    segments = sorted({name.replace(".seal", ".log") for name in names})
    for number, name in enumerate(segments, start=1):
        if name != segment_name(number) or name not in names:
            raise DataError(f"{folder / segment_name(number)} is missing", "every segment of the journal", RESTORE)
    return [folder / name for name in segments]


def seal_path(path: Path) -> Path:
    return path.with_suffix(".seal")


def read_seal(path: Path) -> Seal | None:
    """The seal of the segment at ``path``, or None where it has none yet."""
    file = seal_path(path)
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Seal)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DataError(f"{file} cannot be read: {error}", "the seal as it was written", RESTORE) from error


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path, num_bytes: int | None = None) -> str:
    """SHA-256 of a file, or of its first ``num_bytes``."""
    digest, left = hashlib.sha256(), path.stat().st_size if num_bytes is None else num_bytes
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


class SegmentReader:
    """Iterates over the frames of one segment; ``scan`` says afterwards how far it was whole.

    Raises DataError naming segment and offset where a frame is damaged. In a segment without a seal, what stands
    behind the last whole frame is torn (a commit that was not finished) and left out; a sealed one is read to its
    sealed size and must be whole.
    """

    def __init__(self, path: Path, first: int) -> None:
        self.path, self.seal = path, read_seal(path)
        self._first, self._next, self._offset, self._size = first, first, 0, 0

    def frames(self) -> Iterator[Frame]:
        data = memoryview(self.path.read_bytes())
        self._size = len(data)
        if self.seal is not None:
            if len(data) < self.seal.num_bytes:
                raise self._damage(len(data), f"ends there, and was sealed with {self.seal.num_bytes} bytes")
            # a driver that was taken for dead may have written on: nobody was ever told that those bytes count
            data = data[: self.seal.num_bytes]
        if bytes(data[: len(FILE_MAGIC)]) != FILE_MAGIC[: len(data)]:
            raise self._damage(0, "does not begin as a journal of this version does")
        if len(data) < len(FILE_MAGIC):
            return  # torn while it was made: nothing in it
        self._offset = len(FILE_MAGIC)
        while self._offset < len(data):
            try:
                frame = unpack(data, self._offset)
            except msgspec.ValidationError as error:  # the checksum holds, so these bytes were written so
                raise DataError(
                    f"{self.path} at offset {self._offset} holds a record that this version does not know: {error}",
                    "a journal of this version or an older one",
                    "use the version of Residency that wrote it, or a newer one",
                ) from error
            if frame is None:
                self._expect_torn(data)
                break
            if frame.first != self._next:
                raise self._damage(self._offset, f"holds record {frame.first} where {self._next} is due")
            self._next += len(frame.records)
            self._offset = frame.end
            yield frame
        if self.seal is not None and self._next - self.seal.first != self.seal.count:
            raise self._damage(
                self._offset, f"holds {self._next - self.seal.first} records, sealed were {self.seal.count}"
            )

    def scan(self) -> Scan:
        size = self.seal.num_bytes if self.seal else self._size
        return Scan(
            path=self.path,
            first=self._first,
            count=self._next - self._first,
            num_bytes=self._offset,
            torn_bytes=size - self._offset,
            seal=self.seal,
        )

    def _expect_torn(self, data: memoryview) -> None:
        if self.seal is not None:
            raise self._damage(self._offset, "is damaged: length or checksum do not fit, and it is sealed")
        behind = written_behind(data, self._offset)
        if behind is not None:
            raise self._damage(self._offset, f"is damaged, while more was written behind it, at offset {behind}")

    def _damage(self, offset: int, what: str) -> DataError:
        return DataError(f"{self.path} at offset {offset} {what}", "the bytes that were written", RESTORE)
