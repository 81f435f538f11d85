"""One driver at a time: a living one is never pushed aside, a dead one's place is taken, a lost place is noticed."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from residency.platform.errors import RunInUseError, StorageError
from residency.platform.journal.journal import Journal
from residency.platform.journal.lease import Holder, Lease, new_holder
from residency.platform.journal.reader import read_state
from residency.platform.journal.records import Admitted
from residency.platform.journal.writer import write_seal

Start = Callable[..., "subprocess.Popen[str]"]


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def write_lock(folder: Path, *, silent_seconds: float = 0.0, **changes: object) -> Holder:
    """A lock file of another holder, last touched so long ago."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = msgspec.structs.replace(new_holder(), **{"token": "another", **changes})
    path = folder / "lock"
    path.write_bytes(msgspec.json.encode(holder))
    touched = time.time() - silent_seconds
    os.utime(path, (touched, touched))
    return holder


def test_a_second_driver_is_refused_and_says_who_holds_the_run(tmp_path: Path, start_driver: Start) -> None:
    first = start_driver(tmp_path, "a")
    assert first_line(first) == "a/0"
    with pytest.raises(RunInUseError, match=rf"is in use by process {first.pid} on "):
        Journal.open(tmp_path)
    second = start_driver(tmp_path, "b")
    assert first_line(second).startswith(f"refused: {tmp_path} is in use by process {first.pid}")
    assert second.wait(timeout=30) == 3
    assert first.poll() is None


def test_the_place_of_a_killed_driver_is_taken_at_once(tmp_path: Path, start_driver: Start) -> None:
    first = start_driver(tmp_path, "a")
    assert first_line(first) == "a/0"
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=30)
    began = time.monotonic()
    with Journal.open(tmp_path) as journal:
        assert time.monotonic() - began < 5
        assert journal.replaced is not None
        assert journal.replaced.pid == first.pid
        assert "a/0" in journal.state.keys
        assert [each.pid for each in journal.state.opened] == [first.pid, os.getpid()]


def test_a_killed_driver_that_nobody_has_waited_for_is_dead_too(tmp_path: Path, start_driver: Start) -> None:
    first = start_driver(tmp_path, "a")
    assert first_line(first) == "a/0"
    first.send_signal(signal.SIGKILL)  # a zombie until the fixture waits for it
    with Journal.open(tmp_path, wait_seconds=20) as journal:
        assert journal.replaced is not None
        assert journal.replaced.pid == first.pid


def test_waiting_for_the_place_of_a_driver_that_ends(tmp_path: Path) -> None:
    first = Journal.open(tmp_path)
    timer = threading.Timer(0.5, first.close)
    timer.start()
    with Journal.open(tmp_path, wait_seconds=20) as journal:
        assert journal.replaced is None
        assert len(journal.state.opened) == 2
    timer.join()


def test_a_process_with_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    holder = write_lock(tmp_path, started=psutil.Process().create_time() - 1000)
    with Journal.open(tmp_path) as journal:
        assert journal.replaced == holder


@pytest.mark.parametrize("elsewhere", [{"host": "elsewhere"}, {"machine": "another boot, or another container"}])
def test_a_holder_that_cannot_be_seen_keeps_the_place_for_its_lease(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    holder = write_lock(tmp_path, silent_seconds=10, pid=1, **elsewhere)
    with pytest.raises(RunInUseError, match=r"if that is dead, its lease ends in (19|20) s"):
        Journal.open(tmp_path)
    assert not list(tmp_path.glob(".clock-*"))
    write_lock(tmp_path, silent_seconds=31, pid=1, **elsewhere)
    with Journal.open(tmp_path) as journal:
        assert journal.replaced == holder


def test_a_living_driver_renews_its_lease(tmp_path: Path) -> None:
    lease = Lease(tmp_path, lease_seconds=1.0)
    lease.acquire()
    path = tmp_path / "lock"
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 20
    while path.stat().st_mtime == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lease.check()
    lease.release()
    assert not path.exists()


def test_a_driver_that_lost_its_place_writes_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, lease_seconds=0.2)
    journal.append(Admitted("a"))
    journal.commit()
    holder = write_lock(tmp_path, host="elsewhere")
    content = (tmp_path / "segment-00000001.log").read_bytes()
    time.sleep(0.5)
    journal.append(Admitted("b"))
    with pytest.raises(RunInUseError, match=f"was taken over by process {holder.pid} on elsewhere"):
        journal.commit()
    with pytest.raises(RunInUseError, match="was taken over"):
        journal.append(Admitted("c"))
    journal.close()
    assert (tmp_path / "segment-00000001.log").read_bytes() == content
    assert msgspec.json.decode((tmp_path / "lock").read_bytes(), type=Holder) == holder  # not ours to remove


def test_a_driver_that_slept_through_its_lease_is_told(tmp_path: Path, start_driver: Start) -> None:
    """It is stopped in the middle of its work, its place is taken after the lease, and then it goes on."""
    first = start_driver(tmp_path, "a", "--elsewhere")
    assert first_line(first) == "a/0"
    time.sleep(0.3)
    first.send_signal(signal.SIGSTOP)
    with Journal.open(tmp_path, wait_seconds=30) as journal:
        assert journal.replaced is not None
        assert journal.replaced.host == "elsewhere"
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=30) == 3
        assert first.stdout is not None
        *acknowledged, last = first.stdout.read().splitlines()
        assert last.startswith("refused: ")
        journal.append(Admitted("b"))
        journal.commit()
    keys = read_state(tmp_path).keys
    assert set(acknowledged) <= keys.keys()
    assert list(keys)[-1] == "b"


def test_a_segment_keeps_its_first_seal(tmp_path: Path) -> None:
    path = tmp_path / "segment-00000001.log"
    path.write_bytes(b"x")
    seal = write_seal(path, 0, 1, 1, "digest")
    with pytest.raises(RunInUseError, match="was sealed by another driver"):
        write_seal(path, 0, 2, 2, "another")
    assert msgspec.json.decode(path.with_suffix(".seal").read_bytes(), type=type(seal)) == seal
    assert sorted(each.name for each in tmp_path.iterdir()) == ["segment-00000001.log", "segment-00000001.seal"]


def test_an_unreadable_lock_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("{")
    with pytest.raises(StorageError, match=r"lock cannot be read.*delete it"):
        Journal.open(tmp_path)
