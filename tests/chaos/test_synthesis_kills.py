"""The short form of ``synthesis_kills.py``; the long one is run by ``benchmarks/synthesis.py``."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthesis_kills", Path(__file__).with_name("synthesis_kills.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(240)
def test_a_synthesis_job_killed_five_times_loses_nothing_and_asks_only_what_was_in_flight(
    chaos: ModuleType, tmp_path: Path
) -> None:
    outcome = chaos.kill_until_done(tmp_path, 1500, 5, 1)
    assert outcome.faults == ()
    assert (outcome.kills, outcome.lost, outcome.ended_twice, outcome.answered_twice) == (5, 0, 0, 0)
    assert 0 < outcome.reasked <= outcome.in_flight

    # the judge sees what it must: an answer that is gone from the disk
    for part in (tmp_path / "run" / "synthesis").glob("ledger-*"):
        part.unlink()
    life = chaos.Life(killed=True, asked=9, reasked=3, reasked_unowed=1, in_flight=2)
    faults = chaos.judge(tmp_path / "run", 1500, [life], 1.0).faults
    assert faults[0] == "life 0: 1 asked again that were in flight at no kill"
    assert sum(fault.endswith("is lost") for fault in faults) == 1500
