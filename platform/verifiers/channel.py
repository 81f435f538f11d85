"""Frames over a socket between a process and its judge: every send and receive has a deadline."""

import socket
import struct
import time

HEADER = struct.Struct("!I")
MAX_FRAME_BYTES = 256 * 1024 * 1024
READ_BYTES = 65536


class Channel:
    """Length-prefixed frames; raises TimeoutError when late and EOFError when the other side is gone."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._read = bytearray()

    def send(self, payload: bytes, seconds: float | None) -> None:
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(HEADER.pack(len(payload)) + payload)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError("the other side is gone") from error

    def receive(self, seconds: float | None) -> bytes:
        """The next frame, within ``seconds`` as a whole (None: no limit)."""
        deadline = None if seconds is None else time.monotonic() + seconds
        length = HEADER.unpack(self._take(HEADER.size, deadline))[0]
        if length > MAX_FRAME_BYTES:
            raise EOFError(f"a frame of {length} bytes: the other side does not keep to the protocol")
        return self._take(length, deadline)

    def _take(self, count: int, deadline: float | None) -> bytes:
        while len(self._read) < count:
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
        taken = bytes(self._read[:count])
        del self._read[:count]
        return taken

    def close(self) -> None:
        self._socket.close()
