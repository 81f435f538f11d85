"""Who may write to a journal: a lock file with a lease. One driver at a time; a dead one's place can be taken.

The file names its holder (host, boot, process). On the same machine the holder is dead when its process is; from
another machine this cannot be seen, so there the lease counts: the holder touches the file again and again, and when it
has not for the length of the lease, it is taken for dead. Times are the file system's own (modification times), so that
clocks of two hosts are never compared.
"""

import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from residency.platform.errors import DeadlineError, RunInUseError, StorageError

LEASE_SECONDS = 30.0
GUARD_SECONDS = 10.0  # how long another start may take to look at the lock


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock. ``machine`` is the boot and the process table that ``pid`` belongs to."""

    host: str
    machine: str
    pid: int
    started: float  # seconds since 1970: tells a process from a later one with the same number
    token: str
    lease_seconds: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_machine() -> str:
    """The boot and the process table (containers of one machine have several) that this process lives in."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    table = Path("/proc/self/ns/pid")
    return " ".join(
        (
            boot.read_text().strip() if boot.exists() else f"boot at {psutil.boot_time():.0f}",
            os.readlink(table) if table.is_symlink() else "",
        )
    ).strip()


def new_holder(lease_seconds: float = LEASE_SECONDS) -> Holder:
    """This process."""
    return Holder(
        host=socket.gethostname(),
        machine=this_machine(),
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        token=secrets.token_hex(8),
        lease_seconds=lease_seconds,
    )


def is_same_machine(holder: Holder) -> bool:
    return holder.host == socket.gethostname() and holder.machine == this_machine()


def is_running(holder: Holder) -> bool:
    """Whether the holder's process lives; only to be asked on its own machine."""
    try:
        process = psutil.Process(holder.pid)
        same = abs(process.create_time() - holder.started) < 1.0
        return same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


class Lease:
    """The right to write to the journal in ``folder``, kept alive by a thread until ``release``."""

    def __init__(self, folder: Path, lease_seconds: float = LEASE_SECONDS) -> None:
        self.holder = new_holder(lease_seconds)
        self._path, self._folder = folder / "lock", folder
        self._lost = ""
        self._checked = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="journal-lease", daemon=True)

    def acquire(self, wait_seconds: float = 0.0) -> Holder | None:
        """Takes the lock; returns the dead holder whose place was taken, if there was one.

        Raises RunInUseError where another driver holds it and is not seen to be dead within ``wait_seconds``.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            with self._guard():
                present = self._read()
                refusal = self._refusal(present) if present else ""
                if not refusal:
                    self._write()
                    break
            if time.monotonic() >= deadline:
                raise RunInUseError(refusal, "one driver for a run", "wait for it, stop it, or use another run folder")
            time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))
        self._checked = _boot_clock()
        self._thread.start()
        return present

    def check(self) -> None:
        """Raises RunInUseError once the place was lost: to be asked before and after every write.

        Looks at the file only where this process has slept through a good part of its lease (a suspended machine).
        """
        if not self._lost and _boot_clock() - self._checked > self.holder.lease_seconds / 2:
            self._look()
        if self._lost:
            raise RunInUseError(self._lost, "the lock that this driver took", "stop this driver: the other one goes on")

    def release(self) -> None:
        """Gives the place free, unless it is another's by now."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=GUARD_SECONDS)
        with self._guard():
            present = self._read()
            if present is not None and present.token == self.holder.token:
                self._path.unlink()

    def _refusal(self, present: Holder) -> str:
        """Why the lock cannot be taken from ``present``; empty where it is dead."""
        if is_same_machine(present):
            return f"{self._folder} is in use by {present}" if is_running(present) else ""
        left = present.lease_seconds - self._silent_seconds()
        if left <= 0:
            return ""
        return f"{self._folder} is in use by {present}; if that is dead, its lease ends in {left:.0f} s"

    def _silent_seconds(self) -> float:
        """Since the holder's last sign of life, by the file system's clock."""
        probe = self._folder / f".clock-{self.holder.token}"
        probe.touch()
        try:
            return probe.stat().st_mtime - self._path.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _read(self) -> Holder | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Holder)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise StorageError(f"{self._path} cannot be read: {error}", "a lock file", "delete it") from error

    def _write(self) -> None:
        aside = self._folder / f".lock-{self.holder.token}"
        with aside.open("wb") as file:  # synced, or a power cut could leave an empty lock behind
            file.write(msgspec.json.encode(self.holder))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)

    def _look(self) -> None:
        present = self._read()
        if present is None or present.token != self.holder.token:
            self._lost = f"{self._folder} was taken over by {present}" if present else f"{self._path} was removed"
            return
        os.utime(self._path)  # takes no space, so that a full disk does not cost the lease
        self._checked = _boot_clock()

    def _beat(self) -> None:
        while not self._lost and not self._stop.wait(self.holder.lease_seconds / 5):
            try:
                self._look()
            except OSError:
                continue  # the file system is away for now; `check` looks again before anything is written

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """One start at a time looks at the lock and takes it."""
        with (self._folder / ".lock-guard").open("w") as file:
            deadline = time.monotonic() + GUARD_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise DeadlineError(
                            f"another start holds {file.name} since {GUARD_SECONDS:.0f} s", "a moment", "start again"
                        ) from None
                    time.sleep(0.02)
                except OSError as error:
                    raise StorageError(
                        f"{self._folder} lies on a file system without locks: {error}",
                        "a POSIX file system with flock",
                        "mount it with locks, or choose another place with --run",
                    ) from error
            yield  # closing the file gives the guard free


def _boot_clock() -> float:
    """Seconds that go on while the machine sleeps, where there is such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
