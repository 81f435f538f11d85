"""Inside a Ray Job: starts `residency` again when it fails, a bounded number of times. Ray itself never does.

python -m residency.platform.job_attempts run job/recipe.yaml --profile job/profile.yaml --run /mnt/residency/runs/a

Each attempt goes on where the one before it ended. Not tried again: bad input (exit 2), a run that was told to stop and
did (exit 75), and whatever fails after the job itself was told to stop.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

MOST_FAILURES = 3
WITHIN_SECONDS = 3600.0  # failures that are longer ago no longer count: a run of weeks may meet a bad hour now and then
PAUSE_SECONDS = 5.0
FINAL = (0, 2, 75)  # done, bad input, stopped in good order


def ended_by(status: int) -> str:
    """A process's end in words; ``status`` as `subprocess` gives it (negative for a signal)."""
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def may_try_again(status: int, failures: Sequence[float], now: float) -> bool:
    """Whether there is another attempt; ``failures`` are the times (s) of all failures, this one included."""
    recent = sum(now - at < WITHIN_SECONDS for at in failures)
    return status not in FINAL and recent < MOST_FAILURES


def attempt(command: Sequence[str], pause_seconds: float = PAUSE_SECONDS) -> int:
    """Runs the command until it succeeds or is given up; its last exit status (128 + the signal that killed it)."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Ray sends it to the command as well, which ends in good order: here it means that nothing is started again
        signal.signal(number, lambda *_: stop.set())
    failures: list[float] = []
    while True:
        status = subprocess.Popen(command).wait()
        if status == 0:
            return 0
        failures.append(time.monotonic())
        again = not stop.is_set() and may_try_again(status, failures, failures[-1])
        what = "starting it again" if again else "stopped" if stop.is_set() else "not tried again"
        print(f"attempt {len(failures)} ended: {ended_by(status)}; {what}", file=sys.stderr, flush=True)
        if not again or stop.wait(pause_seconds):
            return status if status > 0 else 128 - status


if __name__ == "__main__":
    sys.exit(attempt([sys.executable, "-m", "residency.platform.cli.app", *sys.argv[1:]]))
