"""What the door says where it does not let a request through: a status, and OpenAI's error form."""

import json
import math

INVALID, LIMITED, FAILED = "invalid_request_error", "rate_limit_error", "server_error"


class Refusal(Exception):
    """A request that is not answered. ``code`` is for programs, ``message`` for people; ``param`` names the field."""

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(status, code, message, param, retry_after_seconds)  # positional, so that it pickles
        self.status, self.code, self.message = status, code, message
        self.param, self.retry_after_seconds = param, retry_after_seconds

    def body(self) -> bytes:
        """OpenAI's error document."""
        kind = LIMITED if self.status == 429 else FAILED if self.status >= 500 else INVALID
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Retry-After (whole seconds, rounded up) where waiting helps; how to authenticate at 401."""
        found: list[tuple[bytes, bytes]] = []
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))
        if self.retry_after_seconds is not None:
            found.append((b"retry-after", str(max(1, math.ceil(self.retry_after_seconds))).encode()))
        return found


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> Refusal:
    """400: the request itself is wrong."""
    return Refusal(400, code, message, param)
