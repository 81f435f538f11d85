"""Step checkpoints on disk: the newest whole one is found, damaged ones are told, and the rule keeps what it says."""

from pathlib import Path

import pytest

from residency.training.learner_state import LearnerState, file_digest, write_record
from residency.training.step_checkpoints import keep_by_rule, newest_whole, saved_steps, step_folder


def save(root: Path, step: int) -> Path:
    """A checkpoint with one file of state, as a learner group leaves it."""
    folder = step_folder(root, step)
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "rank0.bin").write_bytes(bytes([step % 256]) * 100)
    state = LearnerState(
        step=step,
        incarnation=1,
        num_ranks=1,
        zero_stage=2,
        dtype="float32",
        lora=None,
        mapping={"step": step, "best": step / 100},
        files={"state/rank0.bin": file_digest(folder / "state" / "rank0.bin")},
    )
    write_record(folder, state)
    return folder


def test_the_newest_is_found_with_what_was_saved_beside_it(tmp_path: Path) -> None:
    assert newest_whole(tmp_path / "nothing") == (None, {})
    for step in (20, 40, 1_000_000):
        save(tmp_path, step)
    assert saved_steps(tmp_path) == [20, 40, 1_000_000]
    found, damaged = newest_whole(tmp_path)
    assert found is not None
    assert (found.step, found.mapping) == (1_000_000, {"step": 1_000_000, "best": 10_000.0})
    assert damaged == {}
    earlier, _ = newest_whole(tmp_path, most=999)
    assert earlier is not None
    assert earlier.folder.name == "step-000040"


@pytest.mark.parametrize("harm", ["flip", "shorten", "lose", "no record"])
def test_a_damaged_one_is_passed_over_and_named(tmp_path: Path, harm: str) -> None:
    save(tmp_path, 20)
    folder = save(tmp_path, 40)
    file = folder / "state" / "rank0.bin"
    match harm:
        case "flip":
            file.write_bytes(b"\x00" + file.read_bytes()[1:])
        case "shorten":
            file.write_bytes(file.read_bytes()[:-1])
        case "lose":
            file.unlink()
        case _:
            (folder / "state" / "state.json").unlink()
    found, damaged = newest_whole(tmp_path)
    assert found is not None
    assert found.step == 20
    assert list(damaged) == [folder]
    assert ("state.json" if harm == "no record" else "rank0.bin") in damaged[folder]


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in (20, 40, 60, 80, 100):
        save(tmp_path, step)
    assert keep_by_rule(tmp_path, newest=100, keep_last=2, best=40) == [20, 60]
    assert saved_steps(tmp_path) == [40, 80, 100]
    assert keep_by_rule(tmp_path, newest=100, keep_last=2, best=100) == [40]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000080", "step-000100"]


def test_one_that_was_passed_over_never_crowds_a_whole_one_out(tmp_path: Path) -> None:
    for step in (20, 40, 60):
        save(tmp_path, step)
    assert keep_by_rule(tmp_path, newest=40, keep_last=1, best=None) == [20, 60]
    assert saved_steps(tmp_path) == [40]


def test_what_a_killed_driver_left_half_deleted_goes(tmp_path: Path) -> None:
    save(tmp_path, 20)
    save(tmp_path, 40).rename(tmp_path / ".step-000040.gone")
    assert saved_steps(tmp_path) == [20]
    keep_by_rule(tmp_path, newest=20, keep_last=1, best=None)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000020"]
