"""Only the package, the recipe and the profile travel with a job; secrets and paths from here are refused."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from residency.platform.errors import BadInputError
from residency.platform.job_package import PROFILE, RECIPE, SUFFIXES, on_cluster, write_package
from residency.platform.profiles import load_profile
from residency.platform.recipe import Recipe
from residency.platform.recipe_file import load_recipe
from residency.platform.shipped import find

ROOT = Path(__file__).resolve().parents[3]


def recipe(name: str = "starter", *overrides: str) -> Recipe:
    return load_recipe(find("recipes", name), overrides)


def test_the_package_is_whole_by_itself_and_nothing_else_travels(tmp_path: Path) -> None:
    write_package(tmp_path, recipe(), load_profile(find("profiles", "laptop")))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*")), "a link would point to nothing there"
    assert {path.relative_to(tmp_path).parts[0] for path in files} == {"residency", "job"}
    assert not [path for path in files if path.suffix not in SUFFIXES]
    assert sum(path.stat().st_size for path in files) < 8 * 2**20
    code = {path.relative_to(ROOT) for path in (ROOT / "platform").rglob("*.py")}
    assert {
        path.relative_to(tmp_path / "residency") for path in (tmp_path / "residency/platform").rglob("*.py")
    } == code
    command = [sys.executable, "-m", "residency.platform.cli.app", "check", RECIPE, "--profile", PROFILE]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    where = [sys.executable, "-c", "import residency.platform.errors as e; print(e.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert found.stdout.startswith(str(tmp_path)), "what travels comes before what is installed"


def test_the_recipe_arrives_as_it_was_resolved_and_the_profile_names_no_other_cluster(tmp_path: Path) -> None:
    sent, profile = recipe("starter", "rl.steps=7"), load_profile(find("profiles", "cluster"))
    write_package(tmp_path, sent, profile)
    assert load_recipe(tmp_path / RECIPE) == sent
    arrived = load_profile(tmp_path / PROFILE)
    assert arrived == on_cluster(profile)
    assert (arrived.cluster_cpus, arrived.cluster_file) == (None, None)
    assert on_cluster(load_profile(find("profiles", "laptop"))).cluster_cpus is None


def test_suffixes_are_those_of_the_wheel() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    assert set(SUFFIXES) == {".py", *(pattern.removeprefix("*") for pattern in patterns)}


@pytest.mark.parametrize("name", ["starter", "ablation"])
def test_shipped_recipes_hold_nothing_that_is_refused(name: str, tmp_path: Path) -> None:
    write_package(tmp_path, recipe(name), load_profile(find("profiles", "laptop")))


def test_a_secret_is_refused_without_being_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ENDPOINT_KEY", "correct-horse-battery")
    teacher = "{kind: openai, model: m, url: 'https://host/v1', key_variable: MY_ENDPOINT_KEY, revision: %s}"
    leaky = recipe("starter", "synthesis.teachers.1=" + teacher % "correct-horse-battery")
    with pytest.raises(BadInputError) as refused:
        write_package(tmp_path / "a", leaky, load_profile(find("profiles", "laptop")))
    assert "correct-horse-battery" not in str(refused.value)
    assert "revision" in str(refused.value)
    (tmp_path / "b").mkdir()
    write_package(
        tmp_path / "b",
        recipe("starter", "synthesis.teachers.1=" + teacher % "v1"),
        load_profile(find("profiles", "laptop")),
    )
    everything = b"".join(path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file())
    assert b"correct-horse-battery" not in everything
    assert b"MY_ENDPOINT_KEY" in everything, "the name travels, the value does not"


def test_paths_from_here_are_refused_with_their_keys(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=re.escape("student.model models/Qwen2.5-VL-3B-Instruct, data.source")):
        write_package(tmp_path, recipe("infimed-3b"), load_profile(find("profiles", "cluster")))
