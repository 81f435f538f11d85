"""The synthesis engine on a local endpoint: rate and CPU against a bare loop and two peers, faults, and 50 kills.

Usage: ``python benchmarks/synthesis.py [--quick] [--rows 12000] [--kills 50] [--no-peers]``. The endpoint is a
process of its own (``chat_endpoint.py``: log-normal latency, a log of its own). Ours is the real pipeline with one
sample a row, its verdict by the rules, journal and lineage on. The bare loop is 256 coroutines over one aiohttp session
that keep nothing. Both run in turn, in processes of their own, ``--repeats`` times; the medians are compared.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from reporting import report
from synthesis_peers import measure_peer

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"  # on the disk of the checkout: /tmp may be memory
DRIVER, KILLS = ROOT / "tests/chaos/synthesis_driver.py", ROOT / "tests/chaos/synthesis_kills.py"
IN_FLIGHT = 256
GOAL_RATIO, GOAL_CPU_MICROSECONDS, GOAL_CURATOR, GOAL_DISTILABEL = 0.95, 300.0, 5.0, 10.0
PROMPT = (
    "Answer the question.\n\nIs finding {row} benign?\n\nThink inside <think> </think>, answer in <answer> </answer>."
)


@contextmanager
def endpoint(folder: Path, mean_ms: float, *faults: str) -> Iterator[tuple[str, Path]]:
    """(url, log) of an endpoint that runs meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    port, log = folder / "port", folder / "asked.log"
    script = Path(__file__).with_name("chat_endpoint.py")
    command = [sys.executable, str(script), "--port-file", str(port), "--log", str(log), "--mean-ms", str(mean_ms)]
    process = subprocess.Popen([*command, *faults])
    try:
        deadline = time.monotonic() + 60
        while not port.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the endpoint did not start (exit code {process.poll()})")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port.read_text()}/v1", log
    finally:
        process.terminate()
        process.wait(timeout=10)


async def ask_bare(url: str, rows: int) -> None:
    """What anybody would write: so many coroutines over one session, the answers are thrown away."""
    numbers = iter(range(rows))

    async def ask(session: aiohttp.ClientSession) -> None:
        for row in numbers:
            body = {"model": "local", "messages": [{"role": "user", "content": PROMPT.format(row=row)}],
                    "temperature": 1.0, "max_tokens": 200, "seed": row}  # fmt: skip
            async with session.post(f"{url}/chat/completions", json=body) as response:
                answer = await response.json()
                assert answer["choices"][0]["message"]["content"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:
        await asyncio.gather(*(ask(session) for _ in range(IN_FLIGHT)))


def run_bare(url: str, rows: int) -> None:
    """The child process of ``--bare``."""
    began, began_cpu = time.perf_counter(), time.process_time()
    asyncio.run(ask_bare(url, rows))
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}))


def last_json(command: list[str], seconds: float) -> dict[str, Any]:
    """The JSON document on the last line of a command's standard output."""
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, timeout=seconds)
    lines = done.stdout.splitlines()
    if not lines:
        raise SystemExit(f"{command} failed with exit code {done.returncode} and said nothing")
    return json.loads(lines[-1])


def measure_ours(url: str, rows: int, run: Path) -> dict[str, Any]:
    return last_json([str(DRIVER), str(run), url, str(rows), str(IN_FLIGHT)], 900)


def compare_with_bare(folder: Path, mean_ms: float, rows: int, repeats: int) -> dict[str, Any]:
    """Ours and the bare loop in turn on one endpoint."""
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    cpu: dict[str, list[float]] = {"bare": [], "ours": []}
    with endpoint(folder, mean_ms) as (url, _):
        for repeat in range(repeats):
            for who in ("bare", "ours"):
                if who == "bare":
                    found = last_json([__file__, "--bare", url, "--rows", str(rows)], 900)
                else:
                    found = measure_ours(url, rows, folder / f"run-{repeat}")
                    if found["accepted"] != rows:
                        raise SystemExit(f"of {rows} rows {found} came through an endpoint without faults")
                rates[who].append(rows / found["seconds"])
                cpu[who].append(found["cpu_seconds"] / rows * 1e6)
                print(f"{who} at {mean_ms:g} ms: {rates[who][-1]:.0f} rows/s, {cpu[who][-1]:.0f} µs CPU a row",
                      file=sys.stderr)  # fmt: skip
    ours, bare = median(rates["ours"]), median(rates["bare"])
    return {
        "mean_ms": mean_ms, "rows": rows, "repeats": repeats, "ours_rows_per_second": round(ours, 1),
        "bare_rows_per_second": round(bare, 1), "ratio": round(ours / bare, 4),
        "ours_cpu_microseconds": round(median(cpu["ours"]), 1), "bare_cpu_microseconds": round(median(cpu["bare"]), 1),
        "cpu_microseconds_above": round(median(cpu["ours"]) - median(cpu["bare"]), 1),
    }  # fmt: skip


def compare_with_peers(folder: Path, rows: int, ours_rows: int) -> dict[str, Any]:
    """Rows a second at 50 ms; each takes the rows that it can get through in about half a minute."""
    found: dict[str, Any] = {}
    with endpoint(folder, 50.0) as (url, _):
        ours = measure_ours(url, ours_rows, folder / "run")
        found["ours_rows_per_second"] = rate = round(ours_rows / ours["seconds"], 1)
        for name in ("curator", "distilabel"):
            found[name] = peer = measure_peer(name, url, rows, folder)
            if "rows_per_second" in peer:
                found[f"times_{name}"] = round(rate / peer["rows_per_second"], 2)
            print(f"{name}: {peer}", file=sys.stderr)
    return found


def measure_faults(folder: Path, rows: int) -> dict[str, Any]:
    """1 % HTTP 500, 1 % malformed, a burst of 429: how every row ends."""
    faults = ("--errors", "0.01", "--malformed", "0.01", "--burst", "3")
    with endpoint(folder, 50.0, *faults) as (url, log):
        found = measure_ours(url, rows, folder / "run")
        time.sleep(0.5)  # the endpoint writes its log every 0.2 s
        seen = [line.split()[0] for line in log.read_text().splitlines()]
    ends = {name: found[name] for name in ("accepted", "rejected", "dead_letters")}
    return {
        "rows": rows, **ends, "sum": sum(ends.values()), "http_500": seen.count("500"),
        "http_429": seen.count("refused"), "rows_per_second": round(rows / found["seconds"], 1),
        "meets": sum(ends.values()) == rows and found["accepted"] > 0 and found["rejected"] > 0,
    }  # fmt: skip


def main() -> None:
    """Measure all and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=12_000, help="rows against the bare loop")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--items", type=int, default=20_000, help="items of the job that is killed")
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything, to see that it works")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--bare", metavar="URL", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bare:
        run_bare(chosen.bare, chosen.rows)
        return
    if chosen.quick:
        chosen.rows, chosen.repeats, chosen.kills, chosen.items = chosen.rows // 6, 1, 3, chosen.items // 20
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="synthesis-", dir=CACHE) as name:
        folder = Path(name)
        slow = compare_with_bare(folder / "slow", 500.0, chosen.rows, chosen.repeats)
        fast = compare_with_bare(folder / "fast", 50.0, chosen.rows, chosen.repeats)
        peers = {} if chosen.no_peers else compare_with_peers(folder / "peers", 4000, chosen.rows)
        faults = measure_faults(folder / "faults", chosen.rows // 2)
        print(f"faults: {faults}", file=sys.stderr)
    kills = last_json([str(KILLS), "--kills", str(chosen.kills), "--items", str(chosen.items)], 3600)
    meets = (
        slow["ratio"] >= GOAL_RATIO
        and max(slow["cpu_microseconds_above"], fast["cpu_microseconds_above"]) <= GOAL_CPU_MICROSECONDS
        and peers.get("times_curator", 0.0) >= GOAL_CURATOR
        and peers.get("times_distilabel", 0.0) >= GOAL_DISTILABEL
        and faults["meets"]
        and kills["meets"]
    )
    details = {"slow": slow, "fast": fast, "peers": peers, "faults": faults, "kills": kills["details"],
               "goals": {"ratio": GOAL_RATIO, "cpu_microseconds_above": GOAL_CPU_MICROSECONDS,
                         "times_curator": GOAL_CURATOR, "times_distilabel": GOAL_DISTILABEL}}  # fmt: skip
    report("synthesis", slow["ratio"], "of a bare loop's rows/s", GOAL_RATIO, meets, details)


if __name__ == "__main__":
    main()
