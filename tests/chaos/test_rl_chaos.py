"""Whether the checker of ``rl_chaos.py`` (``make chaos``) sees what it must."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from residency.platform.journal.frames import FILE_MAGIC, pack
from residency.platform.journal.records import Admitted, Answered, Dropped, Judged, Record, Restored, Trained
from residency.platform.run_folder import write_arrow

HERE = Path(__file__).parent
DUE = [f"rl-{step:04d}/{item}" for step in range(2) for item in ("a", "b")]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    monkeypatch.syspath_prepend(str(HERE))
    judge = importlib.import_module("chaos_journal").check
    return lambda run: judge(run, DUE, 2, 2)


def write_run(run: Path, *records: Record, teach: dict[int, str] | None = None) -> Path:
    """A run with four groups of two traces, asked and judged, and what else its journal says, sensible or not.

    ``teach``: step → items that the weights remember of it.
    """
    begun: list[Record] = []
    for key in DUE:
        step, item = int(key[3:7]), key[-1]
        name = f"traces/part-rl-{step:04d}-{item}.arrow"
        columns = {"id": [f"{step}{item}0", f"{step}{item}1"], "item_id": [item] * 2, "policy_versions": [[step]] * 2}
        write_arrow(pa.table(columns), run / name)
        begun += [Admitted(key), Answered(key, "generator-1", (name,), step, step), Judged(key, (0.0, 1.0))]
    (run / "journal").mkdir()
    (run / "journal" / "segment-00000001.log").write_bytes(FILE_MAGIC + pack([*begun, *records], 0, 0.0))
    rl = run / "checkpoints" / "rl"
    rl.mkdir(parents=True)
    (rl / "model.safetensors").write_bytes(b"weights")
    if teach is not None:
        taught = [[step, [f"{step - 1}{item}{n}" for item in names for n in (1, 0)]] for step, names in teach.items()]
        (rl / "taught.json").write_text(json.dumps(taught))
    return run


FIRST, SECOND = Trained((DUE[0], DUE[1]), 1, 1), Trained((DUE[2], DUE[3]), 1, 2)
BEGUN = Restored(1, 0, 0)


def test_a_whole_run_has_no_fault_also_after_a_restart_that_went_back(check: Any, tmp_path: Path) -> None:
    whole = check(write_run(tmp_path / "1", BEGUN, FIRST, SECOND, teach={1: "ab", 2: "ab"}))
    assert (whole.faults, whole.due, whole.trained, whole.lost) == ((), 4, 4, 0)
    again = [BEGUN, FIRST, SECOND, Restored(2, 1, 1), Trained((DUE[2], DUE[3]), 2, 2)]
    assert check(write_run(tmp_path / "2", *again)).faults == ()


@pytest.mark.parametrize(
    ("records", "teach", "wanted"),
    [
        ([BEGUN, FIRST, Trained((DUE[2],), 1, 2)], None, ["rl-0001/b is lost"]),
        ([BEGUN, FIRST], None, [*(f"{key} is lost" for key in DUE[2:]), "the steps behind the final weights are [1]"]),
        (
            [BEGUN, FIRST, Trained((DUE[2], DUE[3], DUE[0]), 1, 2)],
            None,
            ["rl-0000/a is in 2 steps", "rl-0000/a was trained on in step 2"],
        ),
        # the step that a restart went back behind is in no ancestry
        ([BEGUN, FIRST, SECOND, Restored(2, 1, 1), Trained((DUE[3],), 2, 2)], None, ["rl-0001/a is lost"]),
        ([BEGUN, FIRST, Trained((DUE[2],), 1, 2), Dropped(DUE[3], "too_hard")], None,
         ["rl-0001/b was dropped as too_hard with the rewards [0.0, 1.0]"]),
        ([BEGUN, FIRST, SECOND], {1: "ab", 2: "a"},
         ["the weights were not trained on the groups that the journal has for step 2"]),
    ],
)  # fmt: skip
def test_the_checker_names_what_must_not_be(
    check: Any, tmp_path: Path, records: list[Record], teach: dict[int, str] | None, wanted: list[str]
) -> None:
    assert list(check(write_run(tmp_path / "run", *records, teach=teach)).faults) == wanted


def test_the_checker_looks_at_the_traces(check: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", BEGUN, FIRST, SECOND)
    (run / "traces" / "part-rl-0001-a.arrow").unlink()
    stale = {"id": ["x", "y"], "item_id": ["b"] * 2, "policy_versions": [[0], [1, 0]]}
    write_arrow(pa.table(stale), run / "traces" / "part-rl-0001-b.arrow")
    faults = check(run).faults
    assert faults == (
        "the traces of rl-0001/a cannot be read",
        "rl-0001/b was sampled by the weights of the steps [0, 1]",
    )
