"""The run's folder on disk: what must survive, written so that no reader ever sees half of it."""

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pydantic import ValidationError

from residency.platform.errors import RecipeError, StorageError
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.recipe_file import explain, read_yaml


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns a full or read-only disk into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StorageError(
                f"{path} could not be written: {os.strerror(error.errno)}",
                "a writable disk with free space",
                "free some space (or choose another place with --run) and start the same command again: it goes on",
            ) from error
        raise


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls ``write`` on a name aside, syncs it and renames it to ``path``; nothing is left behind when it fails."""
    aside = path.with_name(f".{path.name}.partial")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(aside)
            with aside.open("rb") as written:
                os.fsync(written.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def write_arrow(table: pa.Table, path: Path) -> None:
    """One Arrow IPC file, written whole; raises StorageError where the disk is full."""

    def write(aside: Path) -> None:
        with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    write_whole(path, write)


def without_budget(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A dumped recipe without what may be raised while the run goes on: the budget of synthesis."""
    synthesis = {key: value for key, value in (recipe.get("synthesis") or {}).items() if key != "budget"}
    return {**recipe, "synthesis": synthesis}


class RunFolder:
    """Paths and writers of one run. Opening it with another recipe than it was started with is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.data = self.path / "data"  # a link: to what was imported, then to what passed the gates
        self.imported = self.path / "imported"
        self.gated = self.path / "gated"
        self.checkpoints = self.path / "checkpoints"
        self.evaluation = self.path / "evaluation"
        self.examples = self.path / "examples.parquet"
        self.logs = self.path / "logs"
        self.spill = self.path / "spill"  # what the object store of the run's own cluster puts aside; gone at its end
        self._stages = self.path / "journal" / "stages.jsonl"

    def open(self, recipe: Recipe, profile: Profile) -> None:
        """Makes the folder and its ``recipe.yaml``; raises RecipeError where the run has another recipe."""
        wanted = {"recipe": recipe.model_dump(mode="json"), "profile": profile.model_dump(mode="json")}
        resolved = self.path / "recipe.yaml"
        if resolved.is_file():
            there = yaml.safe_load(resolved.read_text())
            before, now = without_budget(there["recipe"]), without_budget(wanted["recipe"])
            changed = sorted(key for key in now if before.get(key) != now[key])
            if changed:
                raise RecipeError(
                    f"{self.path} was started with another recipe (changed: {', '.join(changed)})",
                    "the recipe it was started with",
                    "give another folder with --run, or undo the change",
                )
        write_whole(resolved, lambda aside: aside.write_text(yaml.safe_dump(wanted, sort_keys=False)))

    def recipe(self) -> Recipe:
        """The recipe that the run was started with; raises RecipeError where it is absent or of another form."""
        resolved = self.path / "recipe.yaml"
        tree = read_yaml(resolved)
        try:
            return Recipe.model_validate(tree.get("recipe"))
        except ValidationError as error:
            raise explain(error, str(resolved)) from error

    def point_data(self, folder: Path) -> None:
        """The run's data are this folder of the run from now on; a reader sees the one or the other."""
        aside = self.path / ".data.partial"
        aside.unlink(missing_ok=True)
        aside.symlink_to(folder.relative_to(self.path), target_is_directory=True)
        aside.replace(self.data)

    # stages -------------------------------------------------------------------------------------------------------

    def finished_stages(self) -> dict[str, float]:
        """Stage → seconds, for the stages that are done."""
        if not self._stages.is_file():
            return {}
        done = {}
        for line in self._stages.read_text().splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # the torn last line of a killed driver: that stage did not finish
            if record.get("reopened"):
                done.pop(record["stage"], None)
            else:
                done[record["stage"]] = record["seconds"]
        return done

    def reopen_stage(self, stage: str) -> None:
        """The stage counts as not done once this returns: the next start carries it out again."""
        self._append(self._stages, {"t": time.time(), "stage": stage, "reopened": True}, sync=True)

    def finish_stage(self, stage: str, seconds: float) -> None:
        """The stage counts as done once this returns (written and synced)."""
        self._append(self._stages, {"t": time.time(), "stage": stage, "seconds": round(seconds, 3)}, sync=True)

    # append-only files --------------------------------------------------------------------------------------------

    def _append(self, path: Path, record: Mapping[str, Any], sync: bool = False) -> None:
        """A line of its own, also after one that a killed driver or a full disk has torn."""
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                file.write(line)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())

    def metric(self, role: str, step: int, values: Mapping[str, float], units: Mapping[str, str] | None = None) -> None:
        """One line each in ``metrics.jsonl``: {"t", "step", "role", "name", "value", "unit"}."""
        for name, value in values.items():
            unit = (units or {}).get(name, "")
            self._append(
                self.path / "metrics.jsonl",
                {"t": time.time(), "step": step, "role": role, "name": name, "value": value, "unit": unit},
            )

    def event(self, kind: str, **details: Any) -> None:
        """One line in ``events.jsonl``: deaths, restarts, weight updates, passing references."""
        self._append(self.path / "events.jsonl", {"t": time.time(), "kind": kind, **details})

    # summary ------------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        path = self.path / "summary.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def update_summary(self, **parts: Any) -> None:
        """Replaces top-level parts of ``summary.json`` and leaves the others."""
        whole = {**self.summary(), **parts}
        write_whole(
            self.path / "summary.json", lambda aside: aside.write_text(json.dumps(whole, indent=1, ensure_ascii=False))
        )

    # traces -------------------------------------------------------------------------------------------------------

    def write_part(self, kind: str, purpose: str, number: int, table: pa.Table) -> str:
        """``<kind>/part-<purpose>-<number>.arrow`` (kind: traces or verdicts), whole and synced; returns that name."""
        name = f"{kind}/part-{purpose}-{number:05d}.arrow"
        write_arrow(table, self.path / name)
        return name

    def read_part(self, kind: str, purpose: str, number: int) -> pa.Table:
        """What ``write_part`` wrote; raises StorageError where the journal names a part that is gone or damaged."""
        path = self.path / kind / f"part-{purpose}-{number:05d}.arrow"
        try:
            with pa.memory_map(str(path)) as source:
                return pa.ipc.open_file(source).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(
                f"{path} cannot be read: {error}",
                "the part as it was written: the journal counts on it",
                "restore it (from the mirror, if there is one), or start a new run",
            ) from error
