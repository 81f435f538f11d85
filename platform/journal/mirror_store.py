"""Objects of a mirror on any fsspec store: the one place where another package's failures become ours."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from residency.platform.errors import BadInputError, ResidencyError, StorageError
from residency.platform.journal.segments import sync_folder

MANIFEST = "manifest.json"
BLOCK_BYTES = 1 << 20
# a store that does not answer must not hold up a run for ever; s3fs itself tries a few times more
S3_DEADLINES = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}


class MirrorStore:
    """Names and bytes under one address. An object appears whole or not at all. Blocking."""

    def __init__(self, uri: str, options: Mapping[str, Any] | None = None) -> None:
        self.uri = uri.rstrip("/")
        given = dict(options or {})
        if self.uri.split("://")[0] in ("s3", "s3a"):
            given["config_kwargs"] = {**S3_DEADLINES, **given.get("config_kwargs", {})}
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.uri, **given)
        except (ImportError, ValueError) as error:
            raise BadInputError(
                f"{self.uri} cannot be used as a mirror: {error}",
                "an address that fsspec knows, with its package installed",
                "for s3:// install residency[s3]; for another store its fsspec package (gcsfs, adlfs, …)",
            ) from error
        self._local = isinstance(self._files, LocalFileSystem)

    def sizes(self) -> dict[str, int]:
        """Object name → bytes, of everything there."""
        with self._boundary("list"):
            self._files.invalidate_cache()
            prefix = f"{self._root}/"
            found: dict[str, dict[str, Any]] = self._files.find(self._root, detail=True)
            return {path.removeprefix(prefix): int(about["size"]) for path, about in found.items()}

    def digest(self, name: str) -> str:
        """SHA-256 of an object, read back."""
        digest = hashlib.sha256()
        with self._boundary(name), self._files.open(f"{self._root}/{name}", "rb") as remote:
            while block := remote.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def send(self, path: Path, name: str, num_bytes: int) -> None:
        """Stores the first ``num_bytes`` of a file as an object."""
        with self._boundary(name), self._whole(name) as target:
            if path.stat().st_size == num_bytes:
                self._files.put_file(str(path), target)
            else:  # a segment with late bytes of a driver that was taken for dead
                with path.open("rb") as file:
                    self._files.pipe_file(target, file.read(num_bytes))

    def fetch(self, name: str, path: Path) -> bool:
        """Brings an object to a local file; False where it is not there."""
        with self._boundary(name):
            try:
                self._files.get_file(f"{self._root}/{name}", str(path))
            except FileNotFoundError:
                return False
            return path.is_file()

    def read_manifest(self) -> bytes | None:
        """The manifest's bytes, or None where there is none."""
        with self._boundary(MANIFEST):
            try:
                return self._files.cat_file(f"{self._root}/{MANIFEST}")
            except FileNotFoundError:
                return None

    def write_manifest(self, content: bytes) -> None:
        """Replaces the manifest, the one object that changes."""
        with self._boundary(MANIFEST), self._whole(MANIFEST) as target:
            self._files.pipe_file(target, content)

    @contextmanager
    def _whole(self, name: str) -> Iterator[str]:
        """Where to write an object: object stores show it when it is whole; on a disk it is renamed when it is."""
        target = f"{self._root}/{name}"
        if not self._local:
            self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            yield target
            return
        aside = Path(f"{target}.{secrets.token_hex(4)}.partial")
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield str(aside)
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            shutil.move(aside, target)
            sync_folder(aside.parent)
        finally:
            aside.unlink(missing_ok=True)

    @contextmanager
    def _boundary(self, name: str) -> Iterator[None]:
        """Each store's package raises a family of errors of its own; here all become a StorageError with its cause."""
        try:
            yield
        except ResidencyError:
            raise
        except Exception as error:
            raise StorageError(
                f"the mirror {self.uri} failed at {name}: {type(error).__name__}: {error}",
                "a store that can be reached, read and written with these credentials",
                "check address, credentials and network; the run on its disk is untouched",
            ) from error
