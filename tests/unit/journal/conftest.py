"""Journals to be broken, and drivers of their own processes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Admitted, Answered, Judged, Record, Requested

DRIVER = Path(__file__).with_name("writing_driver.py")
Start = Callable[..., "subprocess.Popen[str]"]


def group(key: str) -> list[Record]:
    """All records of a group until it can be trained on."""
    return [
        Admitted(key, "item"),
        Requested(key, "gen-0", 1),
        Answered(key, "gen-0", ("t",), 1, 2),
        Judged(key, (1.0,)),
    ]


@pytest.fixture
def write_groups() -> Callable[[Path, int], list[str]]:
    """Writes a closed journal of one segment with a commit for each group; returns the keys."""

    def write(folder: Path, number: int) -> list[str]:
        keys = [f"rl-1/{n}" for n in range(number)]
        with Journal.open(folder) as journal:
            for key in keys:
                journal.append(*group(key))
                journal.commit()
        return keys

    return write


@pytest.fixture
def start_driver() -> Iterator[Start]:
    """Starts ``writing_driver.py`` with these arguments; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(DRIVER), *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)
