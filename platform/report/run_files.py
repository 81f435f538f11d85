"""What a report reads of a run: files only, each optional, so that an unfinished run has a report too."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import yaml

from residency.platform.arrow_tables import from_table
from residency.platform.errors import DataError
from residency.platform.records import Verdict

PART = re.compile(r"part-(?P<stage>.+)-(?P<number>\d+)\.arrow")
TRACE_COLUMNS = ("id", "item_id", "model", "sample_index", "text", "finish_reason")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The run's folder, and for each seed the folder with its data, traces and metrics (the same one for one seed)."""

    path: Path
    seeds: tuple[tuple[str, Path], ...]  # name of the seed ("" where there is one only), folder
    summary: Mapping[str, Any]
    recipe: Mapping[str, Any]
    profile: Mapping[str, Any]

    @property
    def first(self) -> Path:
        """The folder that pictures, traces and examples are shown from: the first seed's."""
        return self.seeds[0][1]


def open_run(path: Path) -> RunFiles:
    """The run in ``path``; raises DataError where it is no run."""
    if not (path / "summary.json").is_file() and not (path / "recipe.yaml").is_file():
        raise DataError(f"{path} holds neither summary.json nor recipe.yaml", "a run's folder", "give it with --run")
    resolved: Row = {}
    if (path / "recipe.yaml").is_file():
        resolved = yaml.safe_load((path / "recipe.yaml").read_text()) or {}
    summary: Row = {}
    if (path / "summary.json").is_file():
        summary = json.loads((path / "summary.json").read_text())
    seeds = [(folder.name, folder) for folder in sorted(path.glob("seed-*")) if folder.is_dir()]
    return RunFiles(
        path=path,
        seeds=tuple(seeds) or (("", path),),
        summary=summary,
        recipe=resolved.get("recipe", resolved),
        profile=resolved.get("profile", {}),
    )


def read_lines(path: Path) -> Iterator[Row]:
    """Rows of a JSON-lines file; a torn line, left by a killed process or a full disk, is passed over."""
    if not path.is_file():
        return
    with path.open(errors="replace") as file:
        for line in file:
            with suppress(json.JSONDecodeError):
                yield json.loads(line)


def read_parts(folder: Path, stage: str) -> pa.Table | None:
    """All ``part-<stage>-<number>.arrow`` files of a folder as one table, in their order; None where there is none."""
    tables = []
    for path in sorted(folder.glob(f"part-{stage}-*.arrow")):
        found = PART.fullmatch(path.name)
        if found and found["stage"] == stage:
            with pa.memory_map(str(path)) as source:
                tables.append(pa.ipc.open_file(source).read_all())
    return pa.concat_tables(tables) if tables else None


def read_judged(run: Path, stage: str) -> pl.DataFrame:
    """A stage's traces with their verdicts, a row for each trace that has one; absent parts are 0."""
    traces, verdicts = read_parts(run / "traces", stage), read_parts(run / "verdicts", stage)
    if traces is None or verdicts is None:
        return pl.DataFrame()
    columns = {name: traces.column(name).to_pylist() for name in TRACE_COLUMNS}
    judged = [
        {
            "id": verdict.trace_id,
            "status": verdict.status.value,
            "accuracy": float(verdict.parts.get("accuracy", 0.0)),
            "format": float(verdict.parts.get("format", 0.0)),
            "evidence": verdict.evidence,
        }
        for verdict in from_table(verdicts, Verdict)
    ]
    return pl.DataFrame(columns).join(pl.DataFrame(judged), on="id", maintain_order="left")


def stages_with_traces(run: Path) -> list[str]:
    """Stages that have traces *and* verdicts on disk."""
    found = {match["stage"] for path in (run / "traces").glob("part-*.arrow") if (match := PART.fullmatch(path.name))}
    judged = {
        match["stage"] for path in (run / "verdicts").glob("part-*.arrow") if (match := PART.fullmatch(path.name))
    }
    return sorted(found & judged)
