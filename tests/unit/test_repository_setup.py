"""The set-up refuses a machine that cannot carry it, in one sentence, before anything is written."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_install(place: Path) -> ModuleType:
    """The set-up script as it would run in another checkout."""
    (place / "requirements").mkdir(parents=True)
    for name in ("pyproject.toml", "requirements/install.py", "requirements/cpu.lock"):
        shutil.copy(ROOT / name, place / name)
    spec = importlib.util.spec_from_file_location("requirements_install", place / "requirements" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_machine_without_a_compiler_is_told_so(tmp_path: Path) -> None:
    load_install(tmp_path)
    environment = {"PATH": str(tmp_path)}
    command = [sys.executable, str(tmp_path / "requirements" / "install.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "No C++ compiler was found (c++ is not on the PATH). Install one" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".venv").exists()


def test_another_compiler_is_named(tmp_path: Path) -> None:
    install = load_install(tmp_path)
    compiler = tmp_path / "clang++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    with pytest.raises(install.SetupError, match="clang\\+\\+ is there: set CXX=clang\\+\\+") as caught:
        install.check_compiler(str(tmp_path))
    assert caught.value.code == 2


def test_an_old_python_is_told_so(tmp_path: Path) -> None:
    install = load_install(tmp_path)
    install.check_python((3, 11, 0))
    install.check_python((4, 0, 0))
    with pytest.raises(install.SetupError, match="This is Python 3.10; Residency wants 3.11 or newer") as caught:
        install.check_python((3, 10, 12))
    assert caught.value.code == 2


def test_a_small_disk_is_told_so_and_what_is_installed_counts(tmp_path: Path) -> None:
    install = load_install(tmp_path)
    install.check_disk(free_bytes=9 * 2**30, present_bytes=0)
    install.check_disk(free_bytes=4 * 2**30, present_bytes=5 * 2**30)
    with pytest.raises(install.SetupError, match=r"3\.0 GiB are free .* wants 8\.0 GiB") as caught:
        install.check_disk(free_bytes=3 * 2**30, present_bytes=0)
    assert caught.value.code == 2


def test_links_that_became_plain_files_are_told_so(tmp_path: Path) -> None:
    install = load_install(tmp_path)
    package = tmp_path / "src" / "residency"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "platform").symlink_to("../../platform")
    install.check_links(package)
    (package / "actors").write_text("../../actors")
    with pytest.raises(install.SetupError, match="actors in .* should be links .* git checkout") as caught:
        install.check_links(package)
    assert caught.value.code == 2


def test_a_stamp_counts_only_for_the_same_lock_and_place(tmp_path: Path) -> None:
    install = load_install(tmp_path / "here")
    assert not install.is_finished()
    install.PYTHON.parent.mkdir(parents=True)
    install.PYTHON.symlink_to(sys.executable)
    install.STAMP.write_text(f'{{"fingerprint": "{install.fingerprint()}"}}')
    assert install.is_finished()
    install.LOCK.write_text(install.LOCK.read_text() + "# changed\n")
    assert not install.is_finished()
    assert load_install(tmp_path / "there").fingerprint() != install.fingerprint()


def test_a_package_with_a_missing_file_is_found(tmp_path: Path) -> None:
    install = load_install(tmp_path / "checkout")
    site = tmp_path / "site-packages"
    for name in ("whole", "torn"):
        (site / f"{name}-1.0.dist-info").mkdir(parents=True)
        (site / f"{name}.py").write_text("")
        (site / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
        (site / f"{name}-1.0.dist-info" / "RECORD").write_text(
            f"{name}.py,,\n../../bin/{name},,\n__pycache__/{name}.cpython-311.pyc,,\n{name}-1.0.dist-info/METADATA,,\n"
        )
    assert install.damaged_packages(site) == []
    (site / "torn.py").unlink()
    assert install.damaged_packages(site) == ["torn"]


def test_a_failing_step_shows_its_last_lines(tmp_path: Path) -> None:
    install = load_install(tmp_path)
    script = "print('first'); print('the reason'); raise SystemExit(3)"
    with pytest.raises(install.SetupError, match="(?s)trying: failed with exit code 3.*the reason"):
        install.run("trying", [sys.executable, "-c", script], 60)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("target", "then"),
    [
        ("demo", "residency demo --run runs/demo"),
        ("test", "python -m pytest tests "),
        ("check", "python requirements/check_lock.py gpu"),
    ],
)
def test_every_make_target_sets_up_first(target: str, then: str) -> None:
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(["make", "-n", target], cwd=ROOT, env=alone, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("requirements/install.py")
    assert any(then in f"{line} " for line in lines[1:])


def test_the_ci_script_runs_check_and_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-2:] == ["make check", "make test"]
    assert subprocess.run(["bash", "-n", str(script)], timeout=60).returncode == 0
