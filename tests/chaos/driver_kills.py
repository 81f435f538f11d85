"""`kill -9` of a driver at random moments until its job is done: what was lost, doubled, or asked again?

    python tests/chaos/driver_kills.py [--kills 200] [--requests 5000] [--seed 0]        # make chaos-drivers

Nothing is taken on trust: what was asked is counted from the engines' own log, what was answered from the journal's
frames, and each answer's traces are read back. Prints a table, and one JSON line at the end.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from residency.platform.journal.reader import JournalReader, read_state
from residency.platform.journal.records import Answered, Requested
from residency.platform.journal.state import Stage

DRIVER = Path(__file__).with_name("job_driver.py")
LIFE_SECONDS = 120.0  # a driver that is not done or killed by then hangs
EARLY_SHARE = 0.1  # of the kills fall into the start: imports, taking the lock, reading the journal


@dataclass(frozen=True, kw_only=True)
class Life:
    """One life of the driver. ``reasked`` keys had been asked in an earlier life, and were ``in_flight`` at its kill.

    A life that is killed while it starts gives its keys back and asks none of them: the next one asks them then. So a
    key is ``owed`` from the kill that it was in flight at until it is asked again; asking any other is a fault.
    """

    killed: bool
    early: bool
    seconds: float
    asked: int
    reasked: int
    in_flight: int  # at its start: what the last kill interrupted
    reasked_unowed: int  # of the re-asked, such as were in flight at no kill: must be none
    reasked_answered: int  # and such as had their answer already: must be none
    answered: int  # in the journal at its end
    torn: bool  # the kill left half a commit behind


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the job came to; ``faults`` says in words what must not be."""

    requests: int
    kills: int
    kills_early: int
    kills_with_torn_commit: int
    answered: int
    lost: int
    answered_twice: int
    asked: int
    reasked: int
    in_flight: int  # at the kills, all together: the most that may be asked again
    most_in_flight: int
    seconds: float
    faults: tuple[str, ...]


def keys_in(log: Path, offset: int) -> Iterator[str]:
    """Keys that the engines noted behind ``offset``."""
    if log.exists():
        with log.open("rb") as file:
            file.seek(offset)
            for line in file:
                yield json.loads(line)["item_id"]


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_for(driver: "subprocess.Popen[bytes]", log: Path, begin: int, num_lines: int, line_bytes: int) -> None:
    """Until the engines have noted that many requests more, or the driver has ended."""
    deadline = time.monotonic() + LIFE_SECONDS
    while driver.poll() is None and size_of(log) - begin < num_lines * line_bytes:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the driver asked nothing more for {LIFE_SECONDS:.0f} s")
        time.sleep(0.001)


def live(run: Path, num_requests: int, rng: random.Random, kills_left: int, seen: set[str], owed: set[str]) -> Life:
    """Starts the driver, and kills it after a random number of requests, or at a random moment of its start."""
    log, journal = run / "asked.jsonl", run / "journal"
    before = read_state(journal).keys if journal.exists() else {}
    flying = {key for key, now in before.items() if now.stage is Stage.REQUESTED}
    done = {key for key, now in before.items() if now.stage is Stage.ANSWERED}
    begin, began = size_of(log), time.monotonic()
    command = [sys.executable, str(DRIVER), str(run), str(num_requests)]
    early = kills_left > 0 and rng.random() < EARLY_SHARE
    driver = subprocess.Popen(command)
    try:
        if early:
            time.sleep(rng.uniform(0.0, 1.0))
        elif kills_left:
            spread = 2.0 * (num_requests - len(done)) / kills_left  # so that the job lasts for all the kills
            line_bytes = (
                len(json.dumps({"engine": "engine-0", "item_id": "job/000000", "seed": 0, "num_samples": 1})) + 1
            )
            wait_for(driver, log, begin, round(rng.uniform(0.0, min(spread, num_requests / 10))), line_bytes)
            time.sleep(rng.uniform(0.0, 0.02))
        else:
            driver.wait(timeout=LIFE_SECONDS)
        driver.send_signal(signal.SIGKILL)
    finally:
        driver.kill()
        code = driver.wait(timeout=10)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the driver failed by itself with exit code {code}")
    asked = list(keys_in(log, begin))
    again, owed_now = seen.intersection(asked), owed | flying
    seen.update(asked)
    owed.clear()
    owed.update(owed_now.difference(asked))
    reader, answered = JournalReader(journal), 0
    if journal.exists():
        answered = sum(isinstance(record, Answered) for frame in reader.frames() for record in frame.records)
    return Life(
        killed=code != 0,
        early=early,
        seconds=time.monotonic() - began,
        asked=len(asked),
        reasked=len(again),
        in_flight=len(flying),
        reasked_unowed=len(again - owed_now),
        reasked_answered=len(done.intersection(asked)),
        answered=answered,
        torn=bool(reader.scans and reader.scans[-1].torn_bytes),
    )


def judge(run: Path, keys: list[str], lives: list[Life], seconds: float) -> Outcome:
    """Everything against everything: the engines' log, the journal's frames, the traces."""
    answers: Counter[str] = Counter()
    requested: Counter[str] = Counter()
    refs: dict[str, str] = {}
    for frame in JournalReader(run / "journal").frames():
        for record in frame.records:
            if isinstance(record, Answered):
                answers[record.key] += 1
                refs[record.key] = record.refs[0]
            elif isinstance(record, Requested):
                requested[record.key] += 1
    asked = Counter(keys_in(run / "asked.jsonl", 0))
    lost = [key for key in keys if answers[key] == 0 or holder(run / refs[key]) != key]
    twice = [key for key, number in answers.items() if number > 1]
    kills = [life for life in lives if life.killed]
    faults = [f"life {number}: {life.reasked_unowed} asked again that were in flight at no kill"
              for number, life in enumerate(lives) if life.reasked_unowed]  # fmt: skip
    faults += [f"life {number}: {life.reasked_answered} were answered before"
               for number, life in enumerate(lives) if life.reasked_answered]  # fmt: skip
    faults += [f"{key} was asked {number} times, {requested[key]} are in the journal"
               for key, number in asked.items() if number > requested[key]]  # fmt: skip
    faults += [f"{key} is lost" for key in lost] + [f"{key} is answered twice" for key in twice]
    faults += [f"{key} was never a request" for key in answers.keys() - set(keys)]
    return Outcome(
        requests=len(keys),
        kills=len(kills),
        kills_early=sum(life.early for life in kills),
        kills_with_torn_commit=sum(life.torn for life in kills),
        answered=len(answers),
        lost=len(lost),
        answered_twice=len(twice),
        asked=asked.total(),
        reasked=sum(life.reasked for life in lives),
        in_flight=sum(life.in_flight for life in lives),
        most_in_flight=max(life.in_flight for life in lives),
        seconds=round(seconds, 1),
        faults=tuple(faults),
    )


def holder(part: Path) -> str:
    """The item whose trace a part holds; empty where it cannot be read whole."""
    try:
        with pa.memory_map(str(part)) as source:
            return pa.ipc.open_file(source).read_all().column("item_id")[0].as_py()
    except (OSError, pa.ArrowInvalid):
        return ""


def kill_until_done(run: Path, num_requests: int, num_kills: int, seed: int) -> Outcome:
    """``num_kills`` kills of one job, then its last life to the end."""
    rng, lives, seen, owed, began = random.Random(seed), [], set[str](), set[str](), time.monotonic()
    while not lives or lives[-1].killed:
        left = num_kills - sum(life.killed for life in lives)
        lives.append(live(run, num_requests, rng, left, seen, owed))
    keys = [f"job/{number:06d}" for number in range(num_requests)]
    return judge(run, keys, lives, time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        outcome = kill_until_done(Path(folder), chosen.requests, chosen.kills, chosen.seed)
    for name, value in asdict(outcome).items():
        if name != "faults":
            print(f"{name.replace('_', ' '):<24}{value:>10}")
    for fault in outcome.faults:
        print(fault)
    meets = not outcome.faults and outcome.kills >= chosen.kills
    print(json.dumps({"benchmark": "driver_kills", "value": outcome.lost, "unit": "requests lost", "goal": 0,
                      "meets": meets, "details": {**asdict(outcome), "seed": chosen.seed}}))  # fmt: skip
    sys.exit(0 if meets else 1)


if __name__ == "__main__":
    main()
