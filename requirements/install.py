"""Make or repair ``.venv`` with all that demo, tests and benchmarks need: ``python3 requirements/install.py``.

Runs on the system's Python (3.11 or newer) with nothing but the standard library. A finished environment is recognized
by a stamp and left alone, so that every ``make`` target can call this first; an interrupted one is completed.
"""

from __future__ import annotations  # an older Python must get as far as the sentence about its version

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "residency-setup.json"
LOCK = ROOT / "requirements" / "cpu.lock"
INPUTS = (LOCK, Path(__file__).resolve(), ROOT / "pyproject.toml")

OLDEST_PYTHON = (3, 11)
NEEDED_GIB = 8.0
TORCH = "torch==2.13.0+cpu"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PTH_FILES = {
    # vLLM and Ray start processes that never import our package, so both lines run at interpreter start
    "residency_torchvision.pth": "import residency.platform.torchvision_hook\n",
    # one compiled copy for this environment: the default folder is shared by every checkout and rebuilt at each change
    "residency_extensions.pth": "import os, sys; "
    "os.environ.setdefault('TORCH_EXTENSIONS_DIR', os.path.join(sys.prefix, 'torch_extensions'))\n",
}
COMPILE_OP = """
from deepspeed.accelerator import get_accelerator
get_accelerator().create_op_builder("ShareMemCommBuilder").load(verbose=False)
"""
PIP_SECONDS, COMPILE_SECONDS, WAIT_SECONDS = 3600, 900, 3600


class SetupError(Exception):
    """One clear sentence; ``code`` 2 means that the machine lacks something, 1 that a step failed."""

    def __init__(self, sentence: str, code: int = 1) -> None:
        super().__init__(sentence)
        self.code = code


def check_python(version: tuple[int, ...]) -> None:
    """Refuse a Python that our code cannot run on."""
    if tuple(version[:2]) < OLDEST_PYTHON:
        seen = ".".join(str(part) for part in version[:2])
        raise SetupError(
            f"This is Python {seen}; Residency wants 3.11 or newer. Install one (on Debian or Ubuntu: "
            "apt install python3.11 python3.11-venv), or name it: make PYTHON=/path/to/python3.11 setup.",
            code=2,
        )


def check_compiler(search_path: str | None) -> None:
    """Refuse a machine without a C++ compiler: DeepSpeed compiles a communication op."""
    wanted = os.environ.get("CXX") or "c++"  # what torch calls
    if shutil.which(wanted, path=search_path) is None:
        other = next((name for name in ("g++", "clang++") if shutil.which(name, path=search_path)), None)
        remedy = (
            f"{other} is there: set CXX={other}"
            if other
            else "Install one (on Debian or Ubuntu: apt install g++; on Fedora: dnf install gcc-c++)"
        )
        raise SetupError(f"No C++ compiler was found ({wanted} is not on the PATH). {remedy}, and try again.", code=2)


def check_links(package: Path) -> None:
    """Refuse a checkout whose links became plain files: git writes them so where ``core.symlinks`` is off."""
    flat = sorted(path.name for path in package.iterdir() if path.is_file() and path.suffix == "")
    if flat:
        raise SetupError(
            f"{', '.join(flat)} in {package} should be links and are plain files, as git writes them where it is told "
            "that the disk has no links. Run: git config core.symlinks true && git checkout -- src/residency",
            code=2,
        )


def check_disk(free_bytes: int, present_bytes: int) -> None:
    """Refuse a disk that will be full before the end; what an earlier, interrupted set-up brought counts as there."""
    free, present = free_bytes / 2**30, present_bytes / 2**30
    if free + present < NEEDED_GIB:
        raise SetupError(
            f"{free:.1f} GiB are free under {ROOT}; the set-up wants {NEEDED_GIB - present:.1f} GiB. "
            "Free some space, or clone to a larger disk.",
            code=2,
        )


def folder_bytes(folder: Path) -> int:
    """Size of the files of a folder, 0 if it is not there."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def fingerprint() -> str:
    """What the environment is made from: lock, this script, pyproject.toml and the place where it stands."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in INPUTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_finished() -> bool:
    """Whether the environment was completed from the same inputs."""
    if not STAMP.is_file() or not PYTHON.exists():
        return False
    return json.loads(STAMP.read_text()).get("fingerprint") == fingerprint()


def run(sentence: str, command: list[str], seconds: int, environment: dict[str, str] | None = None) -> None:
    """Run one step with a deadline; its output is shown only if it fails."""
    print(f"  {sentence} ...", end="", flush=True)
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            timeout=seconds,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except subprocess.TimeoutExpired as late:
        print()
        raise SetupError(f"{sentence}: not done after {seconds} s; run it again, it goes on where it was.") from late
    if done.returncode != 0:
        print()
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise SetupError(f"{sentence}: failed with exit code {done.returncode}; the last lines were:\n{tail}")
    print(f" {time.monotonic() - start:.0f} s", flush=True)


def pip(*arguments: str) -> list[str]:
    """A pip command of the environment."""
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]


def make_environment() -> None:
    """Create the virtual environment, or make it anew if its Python or its pip does not answer."""
    if PYTHON.exists():
        probe = subprocess.run(pip("--version"), capture_output=True, timeout=120)
        version = "import sys; raise SystemExit(sys.version_info < (3, 11))"
        if probe.returncode == 0 and subprocess.run([str(PYTHON), "-c", version], timeout=120).returncode == 0:
            return
    base = getattr(sys, "_base_executable", None) or sys.executable  # not the environment that is being replaced
    run("creating .venv", [base, "-m", "venv", "--clear", str(VENV)], 300)
    run("upgrading pip", pip("install", "--quiet", "--upgrade", "pip"), PIP_SECONDS)


def install_torch(again: bool) -> None:
    """torch's CPU build, asked for by its local version: an index without it cannot answer with the CUDA build."""
    arguments = ["install", "--quiet", "--no-deps", *(["--force-reinstall"] if again else [])]
    print(f"  {TORCH}: asking pip's own index ...", end="", flush=True)
    start = time.monotonic()
    direct = subprocess.run(pip(*arguments, TORCH), capture_output=True, text=True, timeout=PIP_SECONDS)
    if direct.returncode == 0:
        print(f" {time.monotonic() - start:.0f} s", flush=True)
        return
    if "No matching distribution" not in direct.stderr:  # another index would not help
        print()
        tail = "\n".join(direct.stderr.splitlines()[-15:])
        raise SetupError(f"pip could not install {TORCH}; its last lines were:\n{tail}")
    print(" it is not there", flush=True)
    command = pip(*arguments, "--index-url", TORCH_CPU_INDEX, TORCH)
    run(f"{TORCH}: from {TORCH_CPU_INDEX}", command, PIP_SECONDS)


def damaged_packages(site: Path) -> list[str]:
    """Names of installed packages whose files are not all there: what a killed pip leaves behind."""
    damaged: list[str] = []
    for distribution in importlib.metadata.distributions(path=[str(site)]):
        files = distribution.files
        whole = files is not None and all(
            Path(str(file.locate())).exists() for file in files if file.suffix != ".pyc" and ".." not in file.parts
        )
        if not whole:
            damaged.append(distribution.metadata["Name"])
    return damaged


def compile_op() -> None:
    """Compile DeepSpeed's shared-memory op into the environment, so that no run waits a minute for it."""
    extensions = VENV / "torch_extensions"
    for lock in extensions.rglob("lock"):
        lock.unlink()  # left by a killed compilation; torch would wait for it for ever, and nobody else compiles now
    environment = {
        "DS_ACCELERATOR": "cpu",
        "TORCH_EXTENSIONS_DIR": str(extensions),
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # ninja is there
    }
    run("compiling DeepSpeed's shared-memory op", [str(PYTHON), "-c", COMPILE_OP], COMPILE_SECONDS, environment)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the set-up's lock file: ``make demo`` and ``make test`` may be typed at once."""
    path = ROOT / ".cache" / "setup.lock"
    path.parent.mkdir(exist_ok=True)
    deadline = time.monotonic() + WAIT_SECONDS
    with path.open("w") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SetupError(f"Another set-up has held {path} for {WAIT_SECONDS} s; look for it.") from None
                if not told:
                    print("  another set-up is running here: waiting for it", flush=True)
                told = True
                time.sleep(1)
        yield


def install() -> None:
    """Every step, each one safe to repeat."""
    free = shutil.disk_usage(ROOT).free
    check_disk(free, folder_bytes(VENV) if VENV.exists() else 0)
    print(f"Setting up {VENV} (about four minutes, 4 GB)", flush=True)
    STAMP.unlink(missing_ok=True)
    make_environment()
    site = next(VENV.glob("lib/python3*/site-packages"))
    damaged = damaged_packages(site)
    install_torch(again="torch" in damaged)
    for line in LOCK.read_text().splitlines():
        if line.split("==")[0] in (name.lower().replace("_", "-").replace(".", "-") for name in damaged):
            run(f"repairing {line}", pip("install", "--quiet", "--no-deps", "--force-reinstall", line), PIP_SECONDS)
    run("installing the lock", pip("install", "--quiet", "--no-deps", "-r", str(LOCK)), PIP_SECONDS)
    editable = pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    run("installing residency", editable, 600)
    compile_op()  # before the line that sends runs to the compiled copy
    for name, line in PTH_FILES.items():
        (site / name).write_text(line)
    run("importing torchvision", [str(PYTHON), "-c", "import torchvision"], 300)
    STAMP.write_text(json.dumps({"fingerprint": fingerprint()}) + "\n")
    print("Set up.", flush=True)


def main() -> int:
    """Check the machine, then make or repair the environment; returns the exit code."""
    try:
        check_python(sys.version_info[:3])
        check_compiler(os.environ.get("PATH"))
        check_links(ROOT / "src" / "residency")
        if not sys.platform.startswith("linux"):
            raise SetupError(f"This is {sys.platform}; the engines run on Linux. Use a Linux machine or WSL 2.", code=2)
        if is_finished():
            return 0
        with alone():
            if not is_finished():
                install()
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
