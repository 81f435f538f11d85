"""A copy of what is finished in a run, on any store that fsspec reaches: ``s3://bucket/run``, ``file:///backup/run``, …

    mirror = Mirror("s3://bucket/run-7")
    await asyncio.to_thread(mirror.push, run, finished_trace_parts)

Sealed segments with their seals and whole trace parts become objects that are never written again; ``manifest.json``
names them all and is written last, so that whoever reads it finds what it names. What stands in the open segment is not
mirrored (``Journal.seal`` closes it); the manifest says how many records that were.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from residency.platform.errors import BadInputError, DataError
from residency.platform.journal.mirror_store import MANIFEST, MirrorStore
from residency.platform.journal.segments import RESTORE, SegmentReader, file_digest, read_seal, seal_path, segment_paths

FOLDER = "journal"
OTHER_PLACE = "mirror to a new, empty place, and keep this one: it may be all that is left of another run"


class MirroredObject(msgspec.Struct, frozen=True, kw_only=True):
    """One finished file, by its path under the run's folder. ``num_records``: how many a segment holds."""

    name: str
    num_bytes: int
    sha256: str
    num_records: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a mirror holds. ``open_records`` stood in the open segment at ``time`` (seconds since 1970)."""

    time: float
    objects: tuple[MirroredObject, ...]
    open_records: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """What one push did: objects sent, objects there in all, and records that are not mirrored yet."""

    num_sent: int
    sent_bytes: int
    num_objects: int
    open_records: int


class Mirror:
    """The mirror of one run at ``uri``. ``options`` go to fsspec (``endpoint_url``, ``key``, ``secret``, …).

    Blocking, and for one thread at a time. Raises BadInputError where the protocol is unknown or its package is
    missing, StorageError where the store cannot be reached or refuses.
    """

    def __init__(self, uri: str, options: Mapping[str, Any] | None = None) -> None:
        self._store = MirrorStore(uri, options)
        self._digests: dict[tuple[Path, int, int], str] = {}  # (file, bytes, modified): each is hashed once

    def push(self, run: Path, files: Iterable[Path] = ()) -> Pushed:
        """Copies the sealed segments of ``run`` and these finished ``files`` under it, then writes the manifest.

        Raises DataError where an object is there already with other bytes (the mirror of another run), or where a
        segment is not what was sealed.
        """
        before = read_manifest(self._store)
        known = {each.name: each for each in before.objects} if before else {}
        there = self._store.sizes()
        finished, open_records = self._segments(run)
        finished += [(path, self._describe(run, path)) for path in files]
        sent: list[MirroredObject] = []
        for path, wanted in finished:
            if not self._is_there(wanted, known.get(wanted.name), there.get(wanted.name)):
                if wanted.num_records and file_digest(path, wanted.num_bytes) != wanted.sha256:
                    raise DataError(f"{path} is not what was sealed", "the bytes that were written", RESTORE)
                self._store.send(path, wanted.name, wanted.num_bytes)
                sent.append(wanted)
            known[wanted.name] = wanted
        manifest = Manifest(
            time=time.time(), objects=tuple(known[name] for name in sorted(known)), open_records=open_records
        )
        if before is None or (manifest.objects, open_records) != (before.objects, before.open_records):
            self._store.write_manifest(msgspec.json.encode(manifest))
        return Pushed(
            num_sent=len(sent),
            sent_bytes=sum(each.num_bytes for each in sent),
            num_objects=len(known),
            open_records=open_records,
        )

    def _segments(self, run: Path) -> tuple[list[tuple[Path, MirroredObject]], int]:
        """Sealed segments and their seals; and the number of records in the open one."""
        finished: list[tuple[Path, MirroredObject]] = []
        next_record = 0
        for path in segment_paths(run / FOLDER):
            seal = read_seal(path)
            if seal is None:
                frames = SegmentReader(path, next_record).frames()
                return finished, sum(len(frame.records) for frame in frames)
            next_record = seal.first + seal.count
            segment = MirroredObject(
                name=f"{FOLDER}/{path.name}", num_bytes=seal.num_bytes, sha256=seal.sha256, num_records=seal.count
            )
            finished += [(path, segment), (seal_path(path), self._describe(run, seal_path(path)))]
        return finished, 0

    def _describe(self, run: Path, path: Path) -> MirroredObject:
        """Size and digest of a finished file; its name is its path under ``run``."""
        if not path.absolute().is_relative_to(run.absolute()):
            raise BadInputError(f"{path} does not lie under {run}", "finished files of this run")
        stat = path.stat()
        key = (path.absolute(), stat.st_size, stat.st_mtime_ns)
        if key not in self._digests:
            self._digests[key] = file_digest(path)
        name = path.absolute().relative_to(run.absolute()).as_posix()
        return MirroredObject(name=name, num_bytes=stat.st_size, sha256=self._digests[key])

    def _is_there(self, wanted: MirroredObject, listed: MirroredObject | None, num_bytes: int | None) -> bool:
        """Whether the object needs no sending; raises DataError where another is there under its name."""
        digest = listed.sha256 if listed else None
        if digest is None and num_bytes == wanted.num_bytes:  # sent by a push that did not come to its manifest
            digest = self._store.digest(wanted.name)
        if digest not in (None, wanted.sha256) or num_bytes not in (None, wanted.num_bytes):
            raise DataError(
                f"{self._store.uri}/{wanted.name} has other bytes than {wanted.name} of this run",
                "the mirror of this run, whose objects never change",
                OTHER_PLACE,
            )
        return num_bytes is not None


def read_manifest(store: MirrorStore) -> Manifest | None:
    """What the mirror says it holds, or None where it has no manifest; raises DataError where that is damaged."""
    content = store.read_manifest()
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise DataError(
            f"{store.uri}/{MANIFEST} cannot be read: {error}", "the manifest of a mirror", OTHER_PLACE
        ) from error
