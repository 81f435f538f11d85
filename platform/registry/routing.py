"""Which version answers a session: a pure function of the session's key and the canary's share."""

from hashlib import sha256

POINTS = 2**64


def choose_version(session_key: str, stable: str, canary: tuple[str, float] | None) -> str:
    """The id of the version that answers ``session_key``: ``canary`` is (version id, share of the sessions, 0 to 1).

    A session stays where it is while the canary's share stays or grows, on every replica and after every restart: its
    place is a hash of its key and of the canary's id, so that the next canary meets other sessions first.
    """
    if canary is None:
        return stable
    version, share = canary
    place = int.from_bytes(sha256(f"{version}\0{session_key}".encode()).digest()[:8], "big")
    return version if place < share * POINTS else stable
