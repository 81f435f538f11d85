"""Reading a whole journal, with or without its driver being alive: takes no lock and changes nothing."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from residency.platform.errors import DataError
from residency.platform.journal.frames import Frame
from residency.platform.journal.segments import RESTORE, Scan, SegmentReader, segment_paths
from residency.platform.journal.state import JournalState


class JournalReader:
    """Frames of all segments in order; ``scans`` fills up with what each segment held.

    Raises DataError where a segment is missing, damaged, or unsealed though another follows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scans: list[Scan] = []

    def frames(self) -> Iterator[Frame]:
        paths = segment_paths(self.folder)
        next_record = 0
        for path in paths:
            segment = SegmentReader(path, next_record)
            if segment.seal is None and path != paths[-1]:
                raise DataError(f"{path} has no seal though a segment follows", "its .seal beside it", RESTORE)
            if segment.seal is not None and segment.seal.first != next_record:
                raise DataError(
                    f"{path} begins at record {segment.seal.first} where {next_record} is due",
                    "the segments of one journal",
                    RESTORE,
                )
            yield from segment.frames()
            self.scans.append(segment.scan())
            next_record += self.scans[-1].count

    def replay(self) -> JournalState:
        """The state after the last whole commit."""
        state = JournalState()
        with _without_garbage_collection():
            for frame in self.frames():
                for record in frame.records:
                    state.apply(record)
        return state


def read_state(folder: Path) -> JournalState:
    """Everything that the journal says, as of its last whole commit."""
    return JournalReader(folder).replay()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Millions of records are made and none of them is garbage: looking through them takes longer than to read them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
