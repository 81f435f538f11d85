"""Frames over a socket between a process and its judge: every send and receive has a deadline."""

import socket
import struct
import time

HEADER = struct.Struct("!Q")
READ_BYTES = 1 << 18


class Channel:
    """Length-prefixed frames; raises TimeoutError when late and EOFError when the other side is gone.

    ``max_frame_bytes`` bounds what is accepted from a side that is not trusted; ValueError for more.
    """

    def __init__(self, connected: socket.socket, max_frame_bytes: int | None = None) -> None:
        self._socket = connected
        self._max_frame_bytes = max_frame_bytes
        self._read = bytearray()

    def send(self, payload: bytes, seconds: float | None) -> None:
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(HEADER.pack(len(payload)) + payload)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError("the other side is gone") from error

    def receive(self, seconds: float | None) -> bytes:
        """The next frame, within ``seconds`` as a whole (None: no limit); one that is late is not lost."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while (frame := self._whole_frame()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("no answer in time")
            self._socket.settimeout(left)
            try:
                piece = self._socket.recv(READ_BYTES)
            except ConnectionResetError as error:
                raise EOFError("the other side is gone") from error
            if not piece:
                raise EOFError("the other side is gone")
            self._read += piece
        return frame

    def _whole_frame(self) -> bytes | None:
        if len(self._read) < HEADER.size:
            return None
        length: int = HEADER.unpack_from(self._read)[0]
        if self._max_frame_bytes is not None and length > self._max_frame_bytes:
            raise ValueError(f"a frame of {length} bytes: what came is no reply")
        end = HEADER.size + length
        if len(self._read) < end:
            return None
        frame = bytes(memoryview(self._read)[HEADER.size : end])
        del self._read[:end]
        return frame

    def close(self) -> None:
        self._socket.close()
