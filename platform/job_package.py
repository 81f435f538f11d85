"""What travels to a cluster with a job: the package, the resolved recipe and the profile; no data, no secret."""

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import yaml

from residency.platform.errors import BadInputError
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.redaction import HIDDEN, redact

RECIPE, PROFILE = "job/recipe.yaml", "job/profile.yaml"
SUFFIXES = (".py", ".yaml", ".j2", ".html", ".css", ".js", ".md", ".txt")  # code, and the package data of pyproject


def on_cluster(profile: Profile) -> Profile:
    """The profile as the job takes it: the cluster that is there, whatever it starts or describes elsewhere."""
    return profile.model_copy(update={"cluster_cpus": None, "cluster_file": None})


def write_package(folder: Path, recipe: Recipe, profile: Profile) -> None:
    """Fills an empty folder: ``residency/`` (its links resolved), ``job/recipe.yaml``, ``job/profile.yaml``.

    Raises BadInputError where the recipe holds a secret, or a path that means nothing on another machine.
    """
    if relative := list(relative_paths(recipe)):
        raise BadInputError(
            f"{', '.join(relative)} in {recipe.name}: a path from here, and the job runs elsewhere",
            "absolute paths on the cluster's shared file system; data and models do not travel with a job",
            f"copy them there, and set for example --set {relative[0].replace(' ', '=/mnt/residency/', 1)}",
        )
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    for line in text.splitlines():
        if (shown := redact(line)) != line:
            raise BadInputError(
                f"what looks like a secret in {recipe.name}: {shown.strip()}",
                f"no secret in what travels ({HIDDEN} stands for it here)",
                "put it into the environment of the cluster's nodes, and the variable's name into the recipe",
            )
    shutil.copytree(Path(str(files("residency"))), folder / "residency", ignore=_not_the_package)
    (folder / "job").mkdir()
    (folder / RECIPE).write_text(text)
    (folder / PROFILE).write_text(yaml.safe_dump(on_cluster(profile).model_dump(mode="json"), sort_keys=False))


def relative_paths(recipe: Recipe) -> Iterator[str]:
    """Keys with paths that are not absolute, each as ``key path``."""
    named = [("student.model", recipe.student.model)] if recipe.student.model != "tiny" else []
    named += [("data.source", recipe.data.source)] if recipe.data.source else []
    named += [("evaluation.datasets", folder) for folder in recipe.evaluation.datasets]
    for number, teacher in enumerate(recipe.synthesis.teachers):
        if teacher.kind == "vllm":
            named.append((f"synthesis.teachers.{number}.model", str(teacher.model)))
    gates, duplicates = recipe.data.gates, recipe.data.duplicates
    if gates is not None:
        named += [("data.gates.overrules", gates.overrules)] if gates.overrules else []
        if gates.teacher is not None and gates.teacher.kind == "vllm":
            named.append(("data.gates.teacher.model", str(gates.teacher.model)))
    if duplicates is not None:
        named += [("data.duplicates.benchmarks", folder) for folder in duplicates.benchmarks]
        named += [("data.duplicates.overrules", duplicates.overrules)] if duplicates.overrules else []
    return (f"{key} {path}" for key, path in named if not Path(path).is_absolute())


def _not_the_package(folder: str, names: list[str]) -> list[str]:
    paths = [Path(folder) / name for name in names]
    return [path.name for path in paths if path.is_file() and path.suffix not in SUFFIXES or path.name == "__pycache__"]
