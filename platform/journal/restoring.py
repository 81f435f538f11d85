"""A run brought back from its mirror, every object checked against the manifest."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from residency.platform.errors import BadInputError, DataError
from residency.platform.journal.mirror import FOLDER, Manifest, MirroredObject, read_manifest
from residency.platform.journal.mirror_store import MANIFEST, MirrorStore
from residency.platform.journal.segments import file_digest, sync_folder
from residency.platform.journal.writer import as_storage_error


@dataclass(frozen=True, kw_only=True, slots=True)
class Restoration:
    """What came back, and what did not.

    ``missing`` names objects that are lost or damaged; a segment behind the first missing one is no use and counts as
    missing too. ``open_records`` stood in the open segment at the last push (``mirrored_at``, seconds since 1970) and
    were never mirrored, as was everything written after it.
    """

    num_segments: int
    num_records: int
    missing_segments: int
    missing_records: int
    missing: tuple[str, ...]
    open_records: int
    mirrored_at: float

    def __str__(self) -> str:
        text = f"{self.num_segments} segments with {self.num_records} records are restored"
        if self.missing:
            text += f"; missing are {self.missing_segments} segments with {self.missing_records} records"
            text += f" ({len(self.missing)} objects lost or damaged: {', '.join(self.missing[:3])})"
        return f"{text}; at least {self.open_records} records of the open segment were not mirrored"


def restore(uri: str, folder: Path, *, partial: bool = False, options: Mapping[str, Any] | None = None) -> Restoration:
    """Brings back what the manifest at ``uri`` names, as files under ``folder``; nothing there is overwritten.

    Raises DataError naming the first object that is lost or damaged, with how much is missing, and then leaves
    ``folder`` as it was; with ``partial`` everything before the first missing segment is restored, and all trace parts
    that are whole. Raises BadInputError where ``folder`` holds another file of a name that is to be restored.
    """
    store = MirrorStore(uri, options)
    manifest = read_manifest(store)
    if manifest is None:
        raise DataError(f"{store.uri} holds no {MANIFEST}", "the mirror of a run", "check the address")
    for each in manifest.objects:
        if PurePosixPath(each.name).is_absolute() or ".." in PurePosixPath(each.name).parts:
            raise DataError(f"{MANIFEST} of {store.uri} names {each.name}", "names under the run's folder")
    with as_storage_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".restoring-", dir=folder) as staging:
            missing: dict[str, str] = {}
            for each in manifest.objects:
                if cause := _fetch(store, each, Path(staging) / each.name):
                    missing[each.name] = cause
            restoration = _account(manifest, tuple(missing))
            if missing and not partial:
                first, cause = next(iter(missing.items()))
                raise DataError(
                    f"{store.uri}/{first} {cause}; of {_num_segments(manifest)} segments"
                    f" {restoration.missing_segments}, and of {_num_records(manifest)} records"
                    f" {restoration.missing_records} cannot be restored ({len(missing)} objects lost or damaged)",
                    f"every object that {MANIFEST} names, as it was written",
                    "bring the object back (an older version, another copy), or restore with partial=True what stands"
                    " before it",
                )
            _place(Path(staging), folder, placing_order(manifest, restoration))
    return restoration


def _fetch(store: MirrorStore, wanted: MirroredObject, path: Path) -> str:
    """Brings one object to ``path``; says what is wrong with it, or nothing where it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not store.fetch(wanted.name, path):
        return "is lost"
    if path.stat().st_size != wanted.num_bytes:
        return f"is damaged: {path.stat().st_size} bytes, {wanted.num_bytes} were written"
    return "" if file_digest(path) == wanted.sha256 else "is damaged: its SHA-256 is not that of what was written"


def _account(manifest: Manifest, missing: tuple[str, ...]) -> Restoration:
    segments = [each for each in manifest.objects if each.num_records]
    gone = {name.removesuffix(".seal").removesuffix(".log") for name in missing if name.startswith(f"{FOLDER}/")}
    num_whole = 0
    while num_whole < len(segments) and segments[num_whole].name.removesuffix(".log") not in gone:
        num_whole += 1
    num_records = sum(each.num_records for each in segments[:num_whole])
    return Restoration(
        num_segments=num_whole,
        num_records=num_records,
        missing_segments=len(segments) - num_whole,
        missing_records=_num_records(manifest) - num_records,
        missing=missing,
        open_records=manifest.open_records,
        mirrored_at=manifest.time,
    )


def placing_order(manifest: Manifest, restoration: Restoration) -> list[MirroredObject]:
    """Objects to be put in place: segments from the last to the first, and before the very first all trace parts.

    So a restoration that was interrupted is a journal whose beginning is missing, which opens as an error and never as
    a shorter journal.
    """
    segments = [each for each in manifest.objects if each.num_records][: restoration.num_segments]
    stems = {each.name.removesuffix(".log") for each in segments}
    whole = [each for each in manifest.objects if each.name not in restoration.missing]
    parts = [each for each in whole if not each.name.startswith(f"{FOLDER}/")]
    journal = [each for each in whole if each.name.removesuffix(".seal").removesuffix(".log") in stems]
    journal.sort(key=lambda each: each.name, reverse=True)  # each seal before its segment
    return [*journal[:-1], *parts, *journal[-1:]]


def _place(staging: Path, folder: Path, objects: Sequence[MirroredObject]) -> None:
    there = [each for each in objects if (folder / each.name).exists()]
    for each in there:
        if file_digest(folder / each.name) != each.sha256:
            raise BadInputError(
                f"{folder / each.name} is there already, with other bytes than the mirror's",
                "a folder without the files that are to be restored",
                "restore into a new folder",
            )
    for each in objects:
        if each in there:
            continue
        target = folder / each.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with (staging / each.name).open("rb") as file:
            os.fsync(file.fileno())
        (staging / each.name).replace(target)
        sync_folder(target.parent)


def _num_segments(manifest: Manifest) -> int:
    return sum(each.num_records > 0 for each in manifest.objects)


def _num_records(manifest: Manifest) -> int:
    return sum(each.num_records for each in manifest.objects)
