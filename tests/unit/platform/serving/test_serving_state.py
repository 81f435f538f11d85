"""What is on call, as a document, and the files behind it."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from residency.platform.errors import BadInputError, ModelError
from residency.platform.registry.model_copy import read_model
from residency.platform.serving.serving_state import Version, parse_state, parse_states
from residency.platform.serving.version_files import layout_of

STATE: dict[str, Any] = {
    "model": "m",
    "versions": {"v1": {"path": "/a"}, "v2": {"path": "/b", "checkpoint": "rl of runs/b"}},
    "stable": "v1",
}


def folder(out: Path, value: float = 0.0, width: int = 2, config: str = "{}") -> Path:
    import numpy as np

    out.mkdir()
    save_file({"w": np.full((2, width), value, dtype=np.float32)}, out / "model.safetensors")
    (out / "config.json").write_text(config)
    return out


def test_one_state_or_several() -> None:
    assert list(parse_states(STATE)) == ["m"]
    assert list(parse_states({"models": [STATE, {**STATE, "model": "n"}]})) == ["m", "n"]
    trial = parse_state({**STATE, "canary": {"version": "v2", "share": 0.1}})
    assert trial.on_call == ("v1", "v2")
    assert trial.label("v2")["checkpoint"] == "rl of runs/b"
    assert parse_state({**STATE, "canary": {"version": "v1", "share": 0.1}}).on_call == ("v1",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stable": "v9"}, "v9 is on call"),
        ({"canary": {"version": "v9", "share": 0.1}}, "v9 is on call"),
        ({"canary": {"version": "v2", "share": 10}}, "less than or equal to 1"),
        ({"model": "m@v1"}, "has an @"),
        ({"versions": {}}, "v1 is on call"),
        ({"more": 1}, "Extra inputs"),
    ],
)
def test_mistakes_are_told(change: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        parse_state(STATE | change)


def test_a_layout_is_all_but_the_values_of_the_weights(tmp_path: Path) -> None:
    one = Version(path=str(folder(tmp_path / "one")))
    same = Version(path=str(folder(tmp_path / "same", value=1.0)))
    assert layout_of(one) == layout_of(same)
    with_digest = one.model_copy(update={"digest": read_model(Path(one.path)).digest})
    assert layout_of(with_digest) == layout_of(one)
    assert layout_of(Version(path=str(folder(tmp_path / "wide", width=3)))) != layout_of(one)
    assert layout_of(Version(path=str(folder(tmp_path / "other", config='{"a": 1}')))) != layout_of(one)
    with pytest.raises(ModelError, match="as it was promoted"):
        layout_of(with_digest.model_copy(update={"path": same.path}))


def test_an_adapter_must_be_one(tmp_path: Path) -> None:
    base, adapter = folder(tmp_path / "base"), tmp_path / "adapter"
    version = Version(path=str(base), adapter=str(adapter))
    with pytest.raises(ModelError, match="is no LoRA adapter"):
        layout_of(version)
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 4}))
    with pytest.raises(ModelError, match="as safetensors"):
        layout_of(version)
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    assert layout_of(version) == f"{layout_of(Version(path=str(base)))} 4"
