"""The short form of ``driver_kills.py``; the long one is ``make chaos-drivers``."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from residency.platform.journal.reader import read_state


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    spec = importlib.util.spec_from_file_location("driver_kills", Path(__file__).with_name("driver_kills.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_driver_killed_eight_times_loses_and_doubles_nothing(chaos: ModuleType, tmp_path: Path) -> None:
    outcome = chaos.kill_until_done(tmp_path, 600, 8, 1)
    assert outcome.faults == ()
    assert (outcome.answered, outcome.lost, outcome.answered_twice) == (600, 0, 0)
    assert outcome.kills == 8
    assert outcome.most_in_flight > 0  # the kills came while something was under way
    assert outcome.asked == 600 + outcome.reasked
    assert outcome.reasked <= outcome.in_flight

    # the judge sees what it must: a part that is gone, and a request that was asked behind the journal's back
    answer = read_state(tmp_path / "journal").keys["job/000007"].answer
    assert answer
    (tmp_path / answer.refs[0]).unlink()
    with (tmp_path / "asked.jsonl").open("a") as log:
        log.writelines(json.dumps({"item_id": "job/000000"}) + "\n" for _ in range(9))
    life = chaos.Life(
        killed=True, early=False, seconds=1.0, asked=9, reasked=3, in_flight=2, reasked_unowed=1,
        reasked_answered=1, answered=0, torn=False,
    )  # fmt: skip
    again, before, behind, lost = chaos.judge(
        tmp_path, [f"job/{number:06d}" for number in range(600)], [life], 1.0
    ).faults
    assert again == "life 0: 1 asked again that were in flight at no kill"
    assert before == "life 0: 1 were answered before"
    assert behind.startswith("job/000000 was asked 1")
    assert lost == "job/000007 is lost"
