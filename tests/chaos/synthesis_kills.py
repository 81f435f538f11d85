"""A synthesis job, killed at random moments (SIGKILL) until it is done: nothing lost, nothing asked but what is owed.

    python tests/chaos/synthesis_kills.py [--kills 50] [--items 20000] [--seed 0]

What was asked is counted from the endpoint's own log, what is owed from the journal at each kill, and every answer and
ledger row is read back. Prints one JSON line at the end.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from residency.platform.journal.reader import JournalReader, read_state
from residency.platform.journal.records import Answered
from residency.platform.journal.state import Stage
from residency.synthesis.pipeline.answers import read_answers
from residency.synthesis.pipeline.ledger import read_ledger, read_outcomes

DRIVER = Path(__file__).with_name("synthesis_driver.py")
ENDPOINT = Path(__file__).resolve().parents[2] / "benchmarks" / "chat_endpoint.py"
LIFE_SECONDS = 180.0  # a driver that is neither done nor killed by then hangs
EARLY_SHARE = 0.1  # of the kills fall into the start: imports, taking the lock, reading the journal


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    url: str
    log: Path

    def num_requests(self) -> int:
        """Requests that came by now; the log is on disk when this returns."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats", timeout=10) as answer:
            return json.load(answer)["requests"]

    def asked(self) -> list[str]:
        """Keys in the order in which they came."""
        self.num_requests()
        return [name for what, name in map(str.split, self.log.read_text().splitlines()) if what == "came"]


@contextmanager
def endpoint(folder: Path, mean_ms: float, *more: str) -> Iterator[Endpoint]:
    """The local endpoint in a process of its own."""
    port, log = folder / "port", folder / "asked.log"
    command = [sys.executable, str(ENDPOINT), "--port-file", str(port), "--log", str(log), "--mean-ms", str(mean_ms)]
    process = subprocess.Popen([*command, *more])
    try:
        deadline = time.monotonic() + 60
        while not port.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the endpoint did not start (exit code {process.poll()})")
            time.sleep(0.02)
        yield Endpoint(url=f"http://127.0.0.1:{port.read_text()}/v1", log=log)
    finally:
        process.kill()
        process.wait(timeout=10)


@dataclass(frozen=True, kw_only=True)
class Life:
    """One life of the driver; ``in_flight`` is what its kill interrupted, by the journal."""

    killed: bool
    asked: int
    reasked: int
    reasked_unowed: int  # asked again though in flight at no kill before: must be none
    in_flight: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    items: int
    kills: int
    lost: int
    ended_twice: int
    answered_twice: int
    reasked: int
    in_flight: int  # at the kills, all together
    most_in_flight: int
    seconds: float
    faults: tuple[str, ...]


def live(run: Path, at: Endpoint, items: int, kills_left: int, rng: random.Random, owed: set[str]) -> Life:
    """One life, killed after a random number of requests, or in its start; ``owed`` is kept from life to life."""
    seen_before = Counter(at.asked())
    early = kills_left > 0 and rng.random() < EARLY_SHARE
    driver = subprocess.Popen([sys.executable, str(DRIVER), str(run), at.url, str(items)], stdout=subprocess.DEVNULL)
    try:
        if early:
            time.sleep(rng.uniform(0.0, 1.5))
        elif kills_left:
            spread = 2 * (items - len(seen_before)) / kills_left  # so that the job lasts for all the kills
            target = seen_before.total() + 1 + round(rng.uniform(0.0, min(spread, items / 5)))
            deadline = time.monotonic() + LIFE_SECONDS
            while driver.poll() is None and at.num_requests() < target and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(rng.uniform(0.0, 0.05))
        else:
            driver.wait(timeout=LIFE_SECONDS)
        driver.send_signal(signal.SIGKILL)
    finally:
        driver.kill()
        code = driver.wait(timeout=10)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the driver failed by itself with exit code {code}")
    now = Counter(at.asked()) - seen_before
    again = now.keys() & seen_before.keys()
    unowed = (again - owed) | {key for key, number in now.items() if number > 1}
    owed.difference_update(now.keys())
    keys = read_state(run / "journal").keys if (run / "journal").exists() else {}
    flying = {key for key, progress in keys.items() if progress.stage is Stage.REQUESTED}
    owed.update(flying)
    return Life(
        killed=code != 0, asked=now.total(), reasked=len(again), reasked_unowed=len(unowed), in_flight=len(flying)
    )  # fmt: skip


def judge(run: Path, items: int, lives: list[Life], seconds: float) -> Outcome:
    """Everything against everything: the endpoint's log, the journal's frames, the answers and the ledger."""
    answered: Counter[str] = Counter()
    references: dict[str, str] = {}
    for frame in JournalReader(run / "journal").frames():
        for record in frame.records:
            if isinstance(record, Answered):
                answered[record.key] += 1
                references[record.key] = record.refs[0]
    wanted = {f"item-{row:07d}" for row in range(items)}
    replies = read_answers(run / "synthesis", references.items())
    ledger = Counter(read_ledger(run / "synthesis").column("item_id").to_pylist())
    outcomes = Counter(read_outcomes(run / "synthesis").column("item_id").to_pylist())
    judged = {key.split("/")[1] for key, now in read_state(run / "journal").keys.items() if now.stage is Stage.JUDGED}
    lost = [name for name in wanted if f"synth/{name}/0" not in replies or not ledger[name] or name not in judged]
    twice = [name for name, number in outcomes.items() if number > 1] + [
        n for n, number in ledger.items() if number > 1
    ]
    answered_twice = [key for key, number in answered.items() if number > 1]
    faults = [f"life {number}: {life.reasked_unowed} asked again that were in flight at no kill"
              for number, life in enumerate(lives) if life.reasked_unowed]  # fmt: skip
    faults += [f"{name} is lost" for name in lost] + [f"{name} ended twice" for name in twice]
    faults += [f"{key} is answered twice" for key in answered_twice]
    faults += [f"{name} was never an item" for name in outcomes.keys() - wanted]
    kills = [life for life in lives if life.killed]
    return Outcome(
        items=items,
        kills=len(kills),
        lost=len(lost),
        ended_twice=len(twice),
        answered_twice=len(answered_twice),
        reasked=sum(life.reasked for life in lives),
        in_flight=sum(life.in_flight for life in kills),
        most_in_flight=max((life.in_flight for life in kills), default=0),
        seconds=round(seconds, 1),
        faults=tuple(faults),
    )


def kill_until_done(folder: Path, items: int, kills: int, seed: int, mean_ms: float = 100.0) -> Outcome:
    """``kills`` kills of one job, then its last life to the end."""
    rng, lives, owed, began = random.Random(seed), [], set[str](), time.monotonic()
    run = folder / "run"
    with endpoint(folder, mean_ms) as at:
        while not lives or lives[-1].killed:
            left = kills - sum(life.killed for life in lives)
            lives.append(live(run, at, items, left, rng, owed))
    return judge(run, items, lives, time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        outcome = kill_until_done(Path(folder), chosen.items, chosen.kills, chosen.seed)
    for fault in outcome.faults[:20]:
        print(fault)
    meets = not outcome.faults and outcome.kills >= chosen.kills and outcome.reasked <= outcome.in_flight
    details = {**asdict(outcome), "faults": len(outcome.faults), "seed": chosen.seed}
    print(json.dumps({"benchmark": "synthesis_kills", "value": outcome.lost, "unit": "items lost", "goal": 0,
                      "meets": meets, "details": details}))  # fmt: skip
    sys.exit(0 if meets else 1)


if __name__ == "__main__":
    main()
