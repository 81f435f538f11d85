"""Model folders that are none: a safetensors file of a few bytes beside a configuration."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

MakeModel = Callable[..., Path]


def write_model(folder: Path, value: int, *, shape: int = 4, config: str = "{}") -> Path:
    """A folder whose one tensor is ``value`` everywhere."""
    folder.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "U8", "shape": [shape], "data_offsets": [0, shape]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes([value]) * shape)
    (folder / "config.json").write_text(config)
    (folder / "state").mkdir()  # an optimizer's: stays where it is
    (folder / "state" / "rank0.pt").write_bytes(b"no model")
    return folder


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """``make_model(value)``: a new model folder."""
    return lambda value, **kw: write_model(tmp_path / "models" / f"{value}-{len(kw)}", value, **kw)
