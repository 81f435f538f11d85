"""The served model under nonsense, and under twice its load with its replica killed: short forms of the benchmark."""

import asyncio
import importlib
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TOKENS = 16


@pytest.fixture
def side(served: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The served model as the benchmarks see one; the cluster's processes are this one's children."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    tree = importlib.import_module("serving_processes").ProcessTree(os.getpid())
    return importlib.import_module("serving_sides").Side(served.url.removesuffix("/v1"), served.model, served.key, tree)


@pytest.mark.timeout(200)
def test_nonsense_gets_documented_statuses_and_breaks_nothing(side: Any) -> None:
    found = importlib.import_module("serving_fuzz").fuzz(
        side, 400, seed=0 if os.environ.get("CI") else int(time.time())
    )
    assert found["meets"], found
    assert sum(count for name, count in found["statuses"].items() if name.endswith(" 400")) > 100


@pytest.mark.timeout(300)
def test_twice_the_load_and_a_killed_replica_are_answered_or_refused(side: Any) -> None:
    load, overload = importlib.import_module("serving_load"), importlib.import_module("serving_overload")
    bodies = load.encoded([load.chat(side.model, number, TOKENS) for number in range(32)])
    possible = asyncio.run(load.capacity(side, bodies, 24, 3.0))
    lasting = overload.lasting_processes(side.tree)
    began = time.monotonic()
    tally, retried, scene = asyncio.run(overload.overload(side, 2 * possible, 12.0, 12.0, TOKENS))
    while httpx.get(f"{side.url}/ready", timeout=30).status_code != 200:
        assert time.monotonic() - began < 180, "no replica came back"
        time.sleep(0.5)
    assert scene.kills == 1
    assert set(tally.outcomes) <= overload.EXPECTED, tally.outcomes
    assert tally.outcomes["200"] > 0
    assert tally.outcomes["503"] > 0
    assert set(retried) == {"answered"}, retried
    assert overload.lasting_processes(side.tree) == lasting
