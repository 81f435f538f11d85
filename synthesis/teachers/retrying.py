"""When a failed attempt is repeated: full jitter (Brooker, "Exponential Backoff And Jitter"), Retry-After first."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

ATTEMPTS = 6  # of one request that fails; refusals (429) do not count, they are told by the deadline
BASE_SECONDS = 0.25
CAP_SECONDS = 20.0
RETRIED_STATUSES = frozenset({408, 409, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
HOPELESS_STATUSES = frozenset({401, 402, 403, 404, 405})  # key, money or address: the same for every row


def jitter_seconds(attempt: int, rng: random.Random) -> float:
    """Seconds before attempt ``attempt`` + 1: uniform between 0 and a ceiling that doubles."""
    return rng.uniform(0.0, min(CAP_SECONDS, BASE_SECONDS * 2 ** min(attempt, 16)))


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float:
    """What the answer asks us to wait (RFC 9110, 10.2.3: seconds or a date); 0 where it says nothing sensible."""
    said = headers.get("Retry-After", "").strip()
    if not said:
        return 0.0
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
