"""API keys: a file that holds only their SHA-256, and the ring that a server checks requests against."""

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from residency.platform.errors import BadInputError
from residency.platform.strict import Positive, Strict

ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")
LOOK_AGAIN_SECONDS = 1.0
ONLY_KEY = "default"  # the id of the key of a server that was given one key


class ApiKey(Strict):
    """One caller. The key itself is shown once, when it is made, and kept nowhere."""

    id: Annotated[str, Field(pattern=rf"^{ID_PATTERN.pattern}$")]
    """Who it is, in the audit log."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the key, in hex."""
    requests_per_minute: Positive | None = None
    """Requests of a minute at each replica; None is no limit."""
    tokens_per_minute: Positive | None = None
    """Prompt and answer tokens of a minute at each replica; None is no limit."""
    created: str = ""
    """When it was made (UTC)."""
    revoked: str | None = None
    """When it stopped to count (UTC)."""


class KeyFile(Strict):
    keys: tuple[ApiKey, ...] = ()


def new_api_key() -> str:
    """A random key of 32 bytes."""
    return f"res-{secrets.token_urlsafe(32)}"


def key_digest(api_key: str) -> str:
    """SHA-256 of the key: what the server keeps, so that the key itself is in no configuration and no log."""
    return hashlib.sha256(api_key.encode()).hexdigest()


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Every key of the file, the revoked ones too; raises BadInputError where it is missing or no key file."""
    try:
        return KeyFile.model_validate(json.loads(path.read_text())).keys
    except FileNotFoundError:
        raise BadInputError(f"{path} does not exist", "a key file", "make one with `residency keys add`") from None
    except (OSError, ValueError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(f"{path} is no key file ({reason})", "what `residency keys add` writes") from error


def write_keys(path: Path, keys: tuple[ApiKey, ...]) -> None:
    """Replace the file in one step, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(KeyFile(keys=keys).model_dump_json(indent=1, exclude_none=True))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def add_key(
    path: Path, key_id: str, requests_per_minute: int | None = None, tokens_per_minute: int | None = None
) -> str:
    """Make a key and return it; raises BadInputError for an id that is taken or no id."""
    keys = read_keys(path) if path.exists() else ()
    if not ID_PATTERN.fullmatch(key_id):
        raise BadInputError(f"the key's id {key_id!r}", "1 to 64 letters, digits, dots, dashes or underscores")
    if any(key.id == key_id for key in keys):
        raise BadInputError(f"the id {key_id!r} is taken in {path}", "a new id", "revoked keys keep theirs, for audits")
    api_key = new_api_key()
    made = ApiKey(
        id=key_id,
        sha256=key_digest(api_key),
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        created=now(),
    )
    write_keys(path, (*keys, made))
    return api_key


def revoke_key(path: Path, key_id: str) -> None:
    """From now on the key is refused (running servers look every second); raises BadInputError for an unknown id."""
    keys = read_keys(path)
    if not any(key.id == key_id and key.revoked is None for key in keys):
        raise BadInputError(f"{path} has no key {key_id!r} that counts", "an id that `residency keys list` shows")
    write_keys(path, tuple(key.model_copy(update={"revoked": now()}) if key.id == key_id else key for key in keys))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class KeyRing:
    """The keys that count now: those of a file, looked at again when it changes, or one digest."""

    def __init__(self, digest: str | None, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._seen: tuple[int, int, int] | None = None
        self._looked = -LOOK_AGAIN_SECONDS
        self._keys: tuple[ApiKey, ...] = (ApiKey(id=ONLY_KEY, sha256=digest),) if digest else ()

    def find(self, authorization: bytes | None) -> ApiKey | None:
        """The caller of an Authorization header, or None. Every key is compared in constant time."""
        self._look()
        scheme, _, key = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        digest, found = hashlib.sha256(key.strip()).hexdigest(), None
        for each in self._keys:
            if secrets.compare_digest(digest, each.sha256):
                found = each
        return found

    def _look(self) -> None:
        if self._path is None or self._clock() - self._looked < LOOK_AGAIN_SECONDS:
            return
        self._looked = self._clock()
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._keys, self._seen = (), None  # a file that was taken away takes every key along
            return
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._seen:
            self._keys = tuple(key for key in read_keys(self._path) if key.revoked is None)
            self._seen = stamp
