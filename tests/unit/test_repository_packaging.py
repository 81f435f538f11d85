"""A wheel and an sdist carry the code behind the links, and the recipes and profiles as package data."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("platform", "actors", "synthesis", "training", "recipes", "profiles")
SUFFIXES = {".py", ".yaml", ".j2"}


def test_wheel_and_sdist_hold_the_linked_folders(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "src", checkout / "src", symlinks=True)
    expected: set[str] = set()
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
        files = [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
        expected |= {f"residency/{path.relative_to(ROOT).as_posix()}" for path in files}
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, checkout / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", "--outdir", str(tmp_path)]
    done = subprocess.run([*command, str(checkout)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(expected) > 10
    (wheel,) = tmp_path.glob("*.whl")
    assert expected <= set(zipfile.ZipFile(wheel).namelist())
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/src/", 1)[1] for name in archive.getnames() if "/src/" in name}
        assert not any(member.issym() for member in archive.getmembers())
    assert expected <= names
