"""Real processes, really killed, on disks that are really full: what was acknowledged is there."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from residency.platform.errors import StorageError
from residency.platform.journal.journal import Journal
from residency.platform.journal.reader import read_state
from residency.platform.journal.records import Admitted
from residency.platform.journal.state import Stage

Start = Callable[..., "subprocess.Popen[str]"]
DRIVER = Path(__file__).with_name("writing_driver.py")
KILLS = 12
TINY_DISK = """
mount -t tmpfs -o size=64k,mode=700 none "$1" || exit 77
"$2" "$3" "$1/journal" full
code=$?
cp -r "$1/journal" "$4"
exit $code
"""


def test_what_a_killed_writer_acknowledged_is_there(tmp_path: Path, start_driver: Start) -> None:
    """Killed again and again at random points of the same journal, also while it opens or seals."""
    dice = random.Random(time.time_ns())
    acknowledged: list[str] = []
    for life in range(KILLS):
        process = start_driver(tmp_path, life)
        assert process.stdout is not None
        if life % 4:  # mostly while it writes, sometimes while it starts
            acknowledged.append(process.stdout.readline().strip())
        time.sleep(dice.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        acknowledged += process.stdout.read().splitlines()
    assert acknowledged
    keys = read_state(tmp_path).keys
    assert set(acknowledged) <= keys.keys()
    assert all(progress.stage is Stage.ANSWERED for progress in keys.values())  # each commit whole or not at all
    for life in range(KILLS):
        written = [key for key in keys if key.startswith(f"{life}/")]
        assert written == [f"{life}/{number}" for number in range(len(written))]
        told = sum(key.startswith(f"{life}/") for key in acknowledged)
        assert told <= len(written) <= told + 1  # the last may be on disk before its driver could say so


def assert_goes_on(folder: Path, output: str, cause: str) -> None:
    """The driver ended with a StorageError, and a new one goes on after the last commit."""
    *acknowledged, last = output.splitlines()
    assert last.startswith("refused: "), output
    assert cause in last
    assert "free some space and start the same command again" in last
    assert acknowledged
    assert list(read_state(folder).keys) == acknowledged
    with Journal.open(folder) as journal:
        assert list(journal.state.keys) == acknowledged
        journal.append(Admitted("afterwards"))
    assert list(read_state(folder).keys) == [*acknowledged, "afterwards"]


def test_a_file_that_may_not_grow_is_a_storage_error(tmp_path: Path) -> None:
    limit = 7_001  # bytes of a file: in the middle of a frame
    process = subprocess.run(
        [sys.executable, DRIVER, tmp_path, "full"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert process.returncode == 3
    assert_goes_on(tmp_path, process.stdout, "File too large (EFBIG)")


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare to mount a small disk of its own")
    disk = tmp_path / "disk"
    disk.mkdir()
    arguments = [str(disk), sys.executable, str(DRIVER), str(tmp_path / "copy")]
    process = subprocess.run(
        [
            unshare,
            "--mount",
            *([] if os.geteuid() == 0 else ["--map-root-user"]),
            "sh",
            "-c",
            TINY_DISK,
            "sh",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if process.returncode != 3 and "full/0" not in process.stdout:
        pytest.skip(f"no small disk can be mounted here: {process.stderr.strip()}")
    assert process.returncode == 3, process.stderr
    assert_goes_on(tmp_path / "copy", process.stdout, "No space left on device (ENOSPC)")


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="could not be written: Not a directory"):
        Journal.open(tmp_path / "file" / "journal")
