"""The bytes of a segment: a file header, then frames. One commit is one frame, written and synced before the next.

    file   = b"RESJRN1\\n" frame*
    frame  = b"RJF1" length:u32 first:u64 time:f64 crc:u32 payload[length]        (little-endian)

``first`` is the number of the frame's first record in the whole journal, ``time`` the wall clock of the commit in
seconds, ``crc`` the CRC-32 of the header before it and of the payload, and the payload a MessagePack array of records.
Since a frame is synced before the next one is begun, a crash can tear only the last: a bad frame with a good one
behind it is damage, and never cut away.
"""

import struct
import zlib
from collections.abc import Sequence

import msgspec

from residency.platform.journal.records import Record

FILE_MAGIC = b"RESJRN1\n"
FRAME_MAGIC = b"RJF1"
HEADER = struct.Struct("<4sIQdI")
CHECKED = struct.Struct("<4sIQd")  # the part of the header that the CRC covers

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Record])


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One whole frame: its records and where it stands. ``end`` is the offset of the byte behind it."""

    first: int
    time: float
    records: list[Record]
    end: int


def pack(records: Sequence[Record], first: int, time: float) -> bytes:
    """The frame of one commit."""
    payload = _encoder.encode(records)
    checked = CHECKED.pack(FRAME_MAGIC, len(payload), first, time)
    return b"".join((checked, zlib.crc32(payload, zlib.crc32(checked)).to_bytes(4, "little"), payload))


def unpack(data: memoryview, offset: int) -> Frame | None:
    """The frame at ``offset``, or None where no whole frame stands there.

    Raises msgspec.ValidationError where the frame is whole, and holds records that this version does not know.
    """
    start = offset + HEADER.size
    if start > len(data):
        return None
    magic, length, first, time, crc = HEADER.unpack_from(data, offset)
    payload = data[start : start + length]
    if magic != FRAME_MAGIC or len(payload) < length:
        return None
    if zlib.crc32(payload, zlib.crc32(data[offset : offset + CHECKED.size])) != crc:
        return None
    return Frame(first, time, _decoder.decode(payload), start + length)


def written_behind(data: memoryview, offset: int) -> int | None:
    """Where something was written after the bad frame at ``offset``, or None: tells a damaged middle from a torn end.

    Either the frame's own header says that it ends before the data do, or a whole frame stands somewhere behind it.
    """
    if offset + HEADER.size <= len(data):
        magic, length, *_ = HEADER.unpack_from(data, offset)
        end = offset + HEADER.size + length
        if magic == FRAME_MAGIC and end < len(data):
            return end
    whole = bytes(data)
    at = whole.find(FRAME_MAGIC, offset + 1)
    while at >= 0:
        if unpack(data, at) is not None:
            return at
        at = whole.find(FRAME_MAGIC, at + 1)
    return None
