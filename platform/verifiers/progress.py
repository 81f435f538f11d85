"""A page of memory that a judge shares with its owner: which sample it is at, and its longest call so far.

It is what lets verdicts travel in blocks while the owner still knows which sample hangs: writing it costs no call of
the kernel, and it outlives a judge that crashes.
"""

import mmap
import os
import struct
import tempfile

PLACE, LONGEST = struct.Struct("q"), struct.Struct("d")


class ProgressPage:
    """Two numbers at fixed places; each is written whole."""

    def __init__(self, fd: int | None = None) -> None:
        """A new page, or the one behind a descriptor that was handed on."""
        if fd is None:
            with tempfile.TemporaryFile() as file:  # unlinked at once: the descriptor is all there is of it
                file.truncate(mmap.PAGESIZE)
                fd = os.dup(file.fileno())
        self.fd = fd
        self._page = mmap.mmap(fd, mmap.PAGESIZE)

    @property
    def place(self) -> int:
        """Number of the sample (or the first of the samples) that is judged now, within its batch."""
        return PLACE.unpack_from(self._page, 0)[0]

    @place.setter
    def place(self, number: int) -> None:
        PLACE.pack_into(self._page, 0, number)

    @property
    def longest_seconds(self) -> float:
        """The longest call so far, of those that came back (seconds)."""
        return LONGEST.unpack_from(self._page, PLACE.size)[0]

    @longest_seconds.setter
    def longest_seconds(self, seconds: float) -> None:
        LONGEST.pack_into(self._page, PLACE.size, seconds)

    def close(self) -> None:
        self._page.close()
        os.close(self.fd)
