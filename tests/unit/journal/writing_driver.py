"""A driver of its own process, for tests that kill or stop it: commits groups and prints each key once it is on disk.

``writing_driver.py FOLDER PREFIX`` goes on until it is killed. ``--elsewhere`` gives it another host's name and a lease
of one second. An error of the journal ends it with ``refused: …`` and exit code 3.
"""

import socket
import sys
import time
from itertools import count
from pathlib import Path

from residency.platform.errors import RunInUseError, StorageError
from residency.platform.journal.journal import Journal
from residency.platform.journal.lease import LEASE_SECONDS
from residency.platform.journal.records import Admitted, Answered, Requested

LONGEST_SECONDS = 120.0  # a test that dies leaves no driver behind


def write(folder: Path, prefix: str, lease_seconds: float) -> None:
    began = time.monotonic()
    with Journal.open(folder, lease_seconds=lease_seconds, segment_bytes=20_000) as journal:
        for number in count():
            key = f"{prefix}/{number}"
            journal.append(Admitted(key, "x" * 100), Requested(key, "worker", 1), Answered(key, "worker"))
            journal.commit()
            print(key, flush=True)
            if time.monotonic() - began > LONGEST_SECONDS:
                return


def main() -> None:
    folder, prefix, *options = sys.argv[1:]
    if options == ["--elsewhere"]:
        socket.gethostname = lambda: "elsewhere"
    try:
        write(Path(folder), prefix, 1.0 if options else LEASE_SECONDS)
    except (StorageError, RunInUseError) as error:
        print(f"refused: {error}", flush=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
