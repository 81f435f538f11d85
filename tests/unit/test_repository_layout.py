"""The layout of DESIGN §2 that keeps a folder called `platform` from shadowing the standard library's module."""

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("platform", "actors", "synthesis", "training")
LINKED_FOLDERS = (*CODE_FOLDERS, "recipes", "profiles")
VAGUE_NAMES = {"utils", "util", "common", "misc", "helpers", "helper", "types"}
LONGEST_FILE = 400


def tracked_or_new(pattern: str) -> list[Path]:
    """Files that git tracks or would, so that build outputs and environments never count."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def modules(folder: str) -> list[Path]:
    return tracked_or_new(f"{folder}/*.py")


def test_there_is_something_to_guard() -> None:
    assert len(modules("platform")) > 5
    assert len(modules("tests")) > 5


@pytest.mark.parametrize("name", LINKED_FOLDERS)
def test_package_folder_is_a_link_to_the_root_folder(name: str) -> None:
    link = ROOT / "src" / "residency" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../../{name}"
    assert link.resolve() == ROOT / name
    assert link.is_dir()


@pytest.mark.parametrize("name", CODE_FOLDERS)
def test_code_folder_has_no_init_file(name: str) -> None:
    assert not (ROOT / name / "__init__.py").exists()


def test_the_standard_library_keeps_its_platform_module() -> None:
    script = "import platform, sys; print(platform.__file__, platform.python_version())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert str(ROOT / "platform") not in done.stdout


@pytest.mark.parametrize("folder", CODE_FOLDERS)
def test_no_module_has_a_standard_library_or_a_vague_name(folder: str) -> None:
    for path in modules(folder):
        names = {path.stem, *(part for part in path.relative_to(ROOT / folder).parts[:-1])}
        assert not names & (set(sys.stdlib_module_names) - {"__future__"}), f"{path}: a standard-library name"
        assert not names & VAGUE_NAMES, f"{path}: a name that says nothing"


def test_no_file_is_longer_than_two_nouns() -> None:
    for folder in (*CODE_FOLDERS, "tests", "benchmarks", "requirements"):
        for path in modules(folder):
            lines = len(path.read_text().splitlines())
            assert lines <= LONGEST_FILE, f"{path.relative_to(ROOT)} has {lines} lines: split it"


def test_test_files_have_unique_names() -> None:
    counts = Counter(path.name for path in modules("tests") if path.name != "conftest.py")
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_test_module_holds_a_test() -> None:
    for path in modules("tests"):
        if path.name.startswith("test_"):
            functions = [
                node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
            ]
            assert any(name.startswith("test_") for name in functions), f"{path} tests nothing"


def test_no_module_sits_outside_the_linked_folders_of_the_package() -> None:
    inside = {path.name for path in (ROOT / "src" / "residency").iterdir() if path.name != "__pycache__"}
    assert inside == {"__init__.py", *LINKED_FOLDERS}
