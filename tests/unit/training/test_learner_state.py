import json
from pathlib import Path

import pytest

from residency.platform.errors import ModelError
from residency.training.learner_state import RECORD, LearnerState, file_digest, has_state, read_state, write_record


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    out = tmp_path / "checkpoint"
    (out / "state").mkdir(parents=True)
    (out / "model.safetensors").write_bytes(b"weights")
    (out / "state" / "optimizer.pt").write_bytes(b"moments")
    files = {name: file_digest(out / name) for name in ("model.safetensors", "state/optimizer.pt")}
    write_record(
        out,
        LearnerState(
            step=7,
            incarnation=2,
            num_ranks=2,
            zero_stage=3,
            dtype="float32",
            lora=None,
            mapping={"epoch": 1, "order": [3, 1]},
            files=files,
        ),
    )
    return out


def test_step_and_position_come_back(checkpoint: Path) -> None:
    state = read_state(checkpoint)
    assert (state.step, state.incarnation, state.num_ranks, state.zero_stage) == (7, 2, 2, 3)
    assert state.mapping == {"epoch": 1, "order": [3, 1]}
    assert has_state(checkpoint)


@pytest.mark.parametrize("name", ["model.safetensors", "state/optimizer.pt"])
@pytest.mark.parametrize("content", [b"weighs", None])
def test_a_file_that_is_not_as_it_was_is_named(checkpoint: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (checkpoint / name).unlink()
    else:
        (checkpoint / name).write_bytes(content)
    with pytest.raises(ModelError, match=name) as caught:
        read_state(checkpoint)
    assert "earlier checkpoint" in caught.value.remedy


def test_the_record_vouches_for_itself(checkpoint: Path) -> None:
    path = checkpoint / RECORD
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(tree | {"step": 8}))
    with pytest.raises(ModelError, match=r"state\.json"):
        read_state(checkpoint)
    path.write_text("{")
    with pytest.raises(ModelError, match=r"state\.json"):
        read_state(checkpoint)


def test_a_plain_folder_has_no_state(tmp_path: Path) -> None:
    assert not has_state(tmp_path)
    with pytest.raises(ModelError, match="has no state/state.json"):
        read_state(tmp_path)
