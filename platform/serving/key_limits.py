"""How much each key may ask of a replica: two token buckets that fill evenly over a minute."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from residency.platform.serving.key_ring import ApiKey
from residency.platform.serving.refusals import Refusal

MINUTE = 60.0


@dataclass(slots=True)
class Bucket:
    """``level`` of at most ``size`` that is left; it fills by ``size`` a minute and may be overdrawn by one request."""

    size: int
    level: float
    at: float

    def left(self, now: float) -> float:
        self.level = min(float(self.size), self.level + (now - self.at) * self.size / MINUTE)
        self.at = now
        return self.level

    def seconds_until(self, amount: float) -> float:
        """Until the level is ``amount``, if nothing more is taken."""
        return max(0.0, (amount - self.level) * MINUTE / self.size)


class KeyLimits:
    """Of every key of this replica. What an answer costs is known when it is there, and taken then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def admit(self, key: ApiKey) -> None:
        """Count a request; raises Refusal (429, with the seconds to wait) where the key has no more."""
        now = self._clock()
        requests = self._bucket(key.id, "requests", key.requests_per_minute, now)
        tokens = self._bucket(key.id, "tokens", key.tokens_per_minute, now)
        if requests is not None and requests.left(now) < 1:
            raise _limited("requests", requests, requests.seconds_until(1))
        if tokens is not None and tokens.left(now) <= 0:
            raise _limited("tokens", tokens, tokens.seconds_until(1))
        if requests is not None:
            requests.level -= 1

    def charge(self, key: ApiKey, tokens: int) -> None:
        """Take what an answer came to."""
        now = self._clock()
        bucket = self._bucket(key.id, "tokens", key.tokens_per_minute, now)
        if bucket is not None:
            bucket.left(now)
            bucket.level -= tokens

    def _bucket(self, key_id: str, what: str, size: int | None, now: float) -> Bucket | None:
        if size is None:
            return None
        bucket = self._buckets.get((key_id, what))
        if bucket is None or bucket.size != size:  # the key's limit was changed
            bucket = self._buckets[key_id, what] = Bucket(size, float(size), now)
        return bucket


def _limited(what: str, bucket: Bucket, seconds: float) -> Refusal:
    return Refusal(
        429, f"{what}_limit", f"This key's {bucket.size} {what} a minute are used up.", retry_after_seconds=seconds
    )
