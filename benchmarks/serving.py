"""Serving: what the whole path costs above plain vLLM, what it does under twice its load, what it says to nonsense.

    python benchmarks/serving.py [--parts overhead overload fuzz] [--minutes 10] [--requests 10000] [--rounds 5]

All on a tiny model on this machine; each part starts its own server. The last line is one JSON document.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import serving_fuzz
import serving_overhead
import serving_overload
from reporting import report

CACHE = Path(__file__).resolve().parent.parent / ".cache"  # on the disk of the checkout: /tmp may be memory
Part = Callable[[Path], dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("overhead", "overload", "fuzz")
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5, help="of the overhead")
    parser.add_argument("--round-requests", type=int, default=80, help="whole, and as many streamed, a side and round")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the overload")
    parser.add_argument("--kill-every", type=float, default=60.0, help="seconds")
    parser.add_argument("--requests", type=int, default=10_000, help="malformed ones")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parts: dict[str, Part] = {
        "overhead": lambda folder: serving_overhead.measure(
            folder, given.rounds, given.round_requests, given.clients, given.tokens
        ),
        "overload": lambda folder: serving_overload.measure(folder, 60 * given.minutes, given.kill_every, given.tokens),
        "fuzz": lambda folder: serving_fuzz.measure(folder, given.requests),
    }
    CACHE.mkdir(exist_ok=True)
    found: dict[str, Any] = {}
    for name in given.parts:
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="serving-") as folder:
            found[name] = parts[name](Path(folder))
        print(json.dumps({name: found[name]}, indent=1), file=sys.stderr, flush=True)
    meets = all(part["meets"] for part in found.values())
    goal = serving_overhead.GOALS["cpu_ratio"]
    report(
        "serving",
        found.get("overhead", {}).get("cpu_ratio", float(meets)),
        "× the CPU of vllm serve",
        goal,
        meets,
        found,
    )
    return 0 if meets else 1


if __name__ == "__main__":
    raise SystemExit(main())
