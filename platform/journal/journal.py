"""A run's journal: what must survive, on disk before it counts as done.

    with Journal.open(run / "journal") as journal:
        journal.append(Admitted("rl/17"), Admitted("rl/18"))
        journal.commit()                                  # from threads
        await journal.durable(Answered("rl/17", "gen-0"))   # from a controller's coroutines

Many appends share one write and one sync: whoever commits first writes for all that have appended by then.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from residency.platform.errors import ResidencyError, StorageError
from residency.platform.journal.lease import LEASE_SECONDS, Holder, Lease
from residency.platform.journal.reader import JournalReader
from residency.platform.journal.records import Opened, Record
from residency.platform.journal.segments import Scan, Seal, sync_folder
from residency.platform.journal.state import JournalState
from residency.platform.journal.writer import SegmentWriter, as_storage_error, settle_last

SEGMENT_BYTES = 16 << 20
SEGMENT_SECONDS = 60.0
FRAME_RECORDS = 8192  # a larger commit is several frames


class Journal:
    """The one open journal of a driver. All methods may be called from several threads; ``durable`` from one loop.

    After a failed write nothing more is taken (whether the lost commit reached the disk is not known): every further
    call raises the same StorageError, and a new start goes on from the last whole commit.
    """

    def __init__(
        self,
        folder: Path,
        lease: Lease,
        state: JournalState,
        writer: SegmentWriter,
        *,
        replaced: Holder | None,
        cut_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
    ) -> None:
        self.folder, self.state = folder, state
        self.replaced = replaced  # the dead driver whose place was taken
        self.cut_bytes = cut_bytes  # of its unfinished commit
        self._lease, self._writer = lease, writer
        self._segment_bytes, self._segment_seconds = segment_bytes, segment_seconds
        self._buffer: list[Sequence[Record]] = []
        self._appended = self._synced = writer.next_record
        self._buffer_lock, self._disk_lock = threading.Lock(), threading.Lock()
        self._turn = asyncio.Lock()
        self._broken: ResidencyError | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        wait_seconds: float = 0.0,
        lease_seconds: float = LEASE_SECONDS,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
    ) -> Self:
        """Takes the journal's place and reads it whole.

        Raises RunInUseError where another driver lives (after ``wait_seconds``), DataError naming segment and offset
        where it is damaged, StorageError where the disk takes nothing.
        """
        with as_storage_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
            lease = Lease(folder, lease_seconds)
            replaced = lease.acquire(wait_seconds)
        try:
            reader = JournalReader(folder)
            state, scans = reader.replay(), reader.scans
            cut_bytes = scans[-1].torn_bytes if scans else 0
            if scans and not settle_last(scans[-1]):
                scans.pop()
            writer = SegmentWriter(folder, len(scans) + 1, _next_record(scans))
            journal = cls(
                folder,
                lease,
                state,
                writer,
                replaced=replaced,
                cut_bytes=cut_bytes,
                segment_bytes=segment_bytes,
                segment_seconds=segment_seconds,
            )
            journal.append(Opened(lease.holder.host, os.getpid(), time.time()))
            journal.commit()
        except BaseException:
            lease.release()
            raise
        return journal

    def append(self, *records: Record) -> int:
        """Takes records for the next commit, in order and whole: a crash keeps all of one call or none.

        Returns the number that ``commit`` must reach. Raises DataError where a record does not fit the state.
        """
        with self._buffer_lock:
            self._raise_if_broken()
            applied = 0
            try:
                for record in records:
                    self.state.apply(record)
                    applied += 1
            finally:  # what the state has taken must be written, or the two would part
                if applied:
                    self._buffer.append(records[:applied])
                    self._appended += applied
            return self._appended

    def commit(self) -> int:
        """Makes everything appended by now durable; returns the number of records on disk."""
        with self._buffer_lock:
            target = self._appended
        with self._disk_lock:
            if self._synced < target:
                self._write_buffer()
            self._raise_if_broken()
            return self._synced

    async def durable(self, *records: Record) -> None:
        """Appends and waits for the disk, sharing the write with every other coroutine that waits."""
        target = self.append(*records)
        async with self._turn:
            if self._synced < target:
                await asyncio.to_thread(self.commit)

    def settle(self, learner: str, step: int) -> int:
        """Lets go of what is known of keys that ``learner`` has used up: it will not go back before ``step``.

        Returns how many keys. ``recall`` before it does go back; a new start reads everything again.
        """
        with self._buffer_lock:
            return self.state.settle(learner, step)

    def recall(self) -> None:
        """Reads all that was let go of back from disk."""
        self.commit()
        whole = JournalReader(self.folder).replay()
        with self._buffer_lock:
            self.state.recall(whole)

    def seal(self) -> Seal | None:
        """Commits and closes the present segment, so that it can be mirrored; None where nothing was in it."""
        self.commit()
        with self._disk_lock, self._breaking():
            seal = self._writer.seal()
            self._lease.check()
            return seal

    def close(self) -> None:
        """Commits, seals and gives the place free; nothing is taken afterwards."""
        try:
            if self._broken is None:
                self.seal()
        finally:
            closed = StorageError(f"{self.folder} was closed", "an open journal", "open it again")
            self._broken = self._broken or closed
            self._writer.close()
            self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_buffer(self) -> None:
        with self._buffer_lock:
            calls, self._buffer = self._buffer, []
        with self._breaking():
            self._raise_if_broken()
            self._lease.check()
            frames = _frames(calls)
            for frame in frames:
                self._writer.append(frame)
            if self._writer.num_bytes >= self._segment_bytes or self._writer.age_seconds >= self._segment_seconds:
                self._writer.seal()
            self._lease.check()  # the machine may have slept since: then this write is another driver's to judge
            self._synced += sum(map(len, frames))

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Whatever fails in here ends the journal: a buffer is gone from memory, and nobody knows if it is on disk."""
        try:
            yield
        except BaseException as error:
            known = isinstance(error, ResidencyError)
            self._broken = error if known else StorageError(f"a write to {self.folder} failed: {error!r}")
            raise

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise type(self._broken)(self._broken.seen, self._broken.wanted, self._broken.remedy)


def _frames(calls: Sequence[Sequence[Record]]) -> list[list[Record]]:
    """Calls packed into frames, none of them cut."""
    frames: list[list[Record]] = []
    for call in calls:
        if not frames or len(frames[-1]) + len(call) > FRAME_RECORDS:
            frames.append([])
        frames[-1].extend(call)
    return frames


def _next_record(scans: Sequence[Scan]) -> int:
    return scans[-1].first + scans[-1].count if scans else 0
