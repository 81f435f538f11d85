"""A registry: a folder with every version of one model, what is on call, and how it came to that.

    REGISTRY/  registry.json    all versions and what is on call; written aside, synced, renamed: the truth
               history.jsonl    one line a change, only ever appended to
               versions/<id>/   the model's files, copied and synced before the register names them
               answers/         what versions answered on the boards, for the next comparison
               watch.json       what the canary's watch sees

Whoever reads takes no lock and sees the register before or after a change, never between. A writer killed at any moment
leaves at worst a folder that no register names, which the next promotion removes.
"""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from residency.platform.errors import BadInputError, DeadlineError, RunInUseError, StorageError
from residency.platform.registry.model_copy import check_model, copy_model, sync_folder
from residency.platform.registry.versions import FORMAT, Change, ModelFiles, Register, State, Version
from residency.platform.run_folder import storage_errors

LOCK_SECONDS = 10.0  # a change takes milliseconds
INCOMING = ".incoming-"


class Registry:
    """The folder of one model's versions. ``path`` need not exist before the first promotion."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.register_path = self.path / "registry.json"
        self.history_path = self.path / "history.jsonl"
        self.answers = self.path / "answers"
        self.watch_path = self.path / "watch.json"

    # reading ------------------------------------------------------------------------------------------------------

    def read(self) -> Register:
        """The register as it is; empty where nothing was promoted yet. Raises StorageError for a damaged file."""
        try:
            text = self.register_path.read_bytes()
        except FileNotFoundError:
            return Register(model=self.path.name)
        try:
            register = msgspec.json.decode(text, type=Register)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise StorageError(
                f"{self.register_path} cannot be read: {error}", "a register", "restore the file from a backup"
            ) from error
        if register.format > FORMAT:
            raise StorageError(
                f"{self.register_path} has format {register.format}", f"at most {FORMAT}", "install a newer residency"
            )
        return register

    def read_existing(self) -> Register:
        """Raises BadInputError where the folder is no registry."""
        if not self.register_path.is_file():
            raise BadInputError(
                f"{self.path} is no registry", "a folder with registry.json", "`residency promote` makes one"
            )
        return self.read()

    def history(self) -> list[Change]:
        """Every change in order, the newest last."""
        found = _whole_lines(self.history_path)
        last = self.read().last
        if last is not None and (not found or found[-1].sequence < last.sequence):
            found.append(last)
        return found

    def folder_of(self, version: Version) -> Path:
        """Where the version's model lies."""
        return self.path / "versions" / version.id

    def serving_state(self, register: Register) -> dict[str, Any]:
        """What a server is to hold, as the document of its ``user_config``. Raises BadInputError where nothing is."""
        stable, canary = register.stable_version(), register.canary
        on_call = [stable, *([register.versions[canary.version]] if canary else [])]
        return {
            "model": register.model,
            "versions": {
                version.id: {
                    "path": str(self.folder_of(version)),
                    "digest": version.model.digest,
                    "checkpoint": version.checkpoint,
                    "adapter": None,
                }
                for version in on_call
            },
            "stable": stable.id,
            "canary": {"version": canary.version, "share": canary.share} if canary else None,
        }

    def check(self, version: Version) -> None:
        """Raises ModelError where the version's files are no longer those that were promoted."""
        check_model(self.folder_of(version), version.model, version.id)

    # changing -----------------------------------------------------------------------------------------------------

    def change(self, step: Callable[[Register], Register]) -> Register:
        """Applies one pure change (``changes``) under the lock and returns the register after it.

        Raises what the change raises, DeadlineError where the lock stays taken, StorageError for a full disk.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with self._locked():
                before = self.read()
                self._mend_history(before)
                after = step(before)
                assert after.last is not None
                assert after.sequence == before.sequence + 1, "one change at a time"
                self._write(after)
                self._append(after.last)
        return after

    def add(
        self, incoming: "Incoming", step: Callable[[Register, str], Register], expected_stable: str | None
    ) -> Register:
        """Puts an incoming model in its place as the next version, by ``step(register, id)``.

        Raises RunInUseError where another version became stable since the evidence was taken.
        """

        def admit(register: Register) -> Register:
            if register.stable != expected_stable:
                raise RunInUseError(
                    f"{register.stable} became stable while {expected_stable} was compared with",
                    "evidence against what is on call",
                    "promote again",
                )
            after = step(register, register.next_id)
            version = after.versions[register.next_id]
            if version.state is not State.REFUSED:
                home = self.folder_of(version)
                home.parent.mkdir(exist_ok=True)
                shutil.rmtree(
                    home, ignore_errors=True
                )  # of a writer that was killed between this line and the register
                incoming.folder.rename(home)
                sync_folder(home.parent)
            return after

        return self.change(admit)

    @contextmanager
    def incoming(self, source: Path) -> Iterator["Incoming"]:
        """A synced copy of a model folder that is no version yet; it is gone in the end unless ``add`` took it.

        Raises RunInUseError while another promotion is at work here.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / ".promoting").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise RunInUseError(
                        f"another promotion is at work in {self.path}", "one at a time", "wait until it is done"
                    ) from None
                for left in self.path.glob(f"{INCOMING}*"):
                    shutil.rmtree(left, ignore_errors=True)
                folder = self.path / f"{INCOMING}{secrets.token_hex(4)}"
                try:
                    yield Incoming(folder, copy_model(source, folder))
                finally:
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path / ".lock").open("w") as file:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise DeadlineError(
                            f"another writer holds {file.name} since {LOCK_SECONDS:.0f} s", "a moment", "try again"
                        ) from None
                    time.sleep(0.02)
            yield  # closing the file gives the lock free; so does a killed process

    def _write(self, register: Register) -> None:
        aside = self.path / ".registry.json.partial"  # one name: the lock lets one writer in
        with aside.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(register), indent=1))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.register_path)
        sync_folder(self.path)

    def _append(self, change: Change) -> None:
        torn = self.history_path.is_file() and not self.history_path.read_bytes().endswith(b"\n")
        with self.history_path.open("ab") as file:
            file.write((b"\n" if torn else b"") + msgspec.json.encode(change) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _mend_history(self, register: Register) -> None:
        """The line of a writer that was killed after the register and before the history."""
        written = _whole_lines(self.history_path)
        if register.last is not None and (not written or written[-1].sequence < register.last.sequence):
            self._append(register.last)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A copied model that waits for its comparison."""

    folder: Path
    model: ModelFiles


def _whole_lines(path: Path) -> list[Change]:
    """The changes of a history; a torn line (a writer was killed in it) is left out, its successor repeats it."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Change))
        except (msgspec.DecodeError, msgspec.ValidationError):
            continue
    return found
