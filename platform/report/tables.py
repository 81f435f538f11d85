"""The report's numbers put in order: comparisons in words, stages, counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from residency.platform.report.run_files import Row, RunFiles, read_lines

CHECKPOINT_STYLE = {
    "base": "c-base", "sft": "c-sft", "rl": "c-rl", "sft_continued": "c-continued", "rl_permuted": "c-permuted",
}  # fmt: skip
CHECKPOINT_NAME = {
    "base": "base",
    "sft": "SFT",
    "rl": "RL",
    "sft_continued": "SFT continued",
    "rl_permuted": "RL, rewards permuted",
}
NOT_WORSE_POINTS = 3  # points of loss that are still called "not worse"


def name_of(checkpoint: str) -> str:
    """A checkpoint's name for people; ``sft@blank`` is SFT on blank images."""
    base, _, image = checkpoint.partition("@")
    name = CHECKPOINT_NAME.get(base, base)
    return name if not image else f"{name} without the image" if image == "none" else f"{name} on {image} images"


def shown_rows(rows: Sequence[Row]) -> list[Row]:
    """The pooled rows where there are any (several seeds), else all of them."""
    pooled = [row for row in rows if row.get("seed") is None]
    return pooled or list(rows)


def in_words(row: Row) -> str:
    """What a comparison's interval allows to say, and no more."""
    (low, high), a, b = row["ci95"], name_of(row["a"]), name_of(row["b"])
    if low > 0:
        return f"{a} is above {b}: the whole interval lies above 0."
    if high < 0:
        return f"{a} is below {b}: the whole interval lies below 0."
    if low > -NOT_WORSE_POINTS / 100:
        return f"No difference shown; a loss of {NOT_WORSE_POINTS} points or more is ruled out."
    return "No difference shown: the interval holds 0."


def comparison_rows(rows: Sequence[Row]) -> list[Row]:
    """Comparisons with names, words, and the place of their interval on a common symmetric axis (percent of width)."""
    shown = shown_rows(rows)
    reach = max([abs(bound) for row in shown for bound in row["ci95"]] + [0.05]) * 1.05

    def place(value: float) -> float:
        return round(50 + 50 * value / reach, 2)

    return [
        row
        | {
            "a_name": name_of(row["a"]),
            "b_name": name_of(row["b"]),
            "words": in_words(row),
            "low": place(row["ci95"][0]),
            "high": place(row["ci95"][1]),
            "at": place(row["difference"]),
            "tone": "up" if row["ci95"][0] > 0 else "down" if row["ci95"][1] < 0 else "even",
        }
        for row in shown
    ]


def by_task(folder: Path) -> tuple[list[str], list[Row]]:
    """Greedy accuracy on true images by task and checkpoint, from ``evaluation/*.parquet``: (checkpoints, rows).

    Only runs from before slices were in the summary have these files.
    """
    frames: dict[str, pl.DataFrame] = {}
    for checkpoint in CHECKPOINT_NAME:
        path = folder / "evaluation" / f"{checkpoint}-think-greedy-true.parquet"
        if path.is_file():
            frame = pl.read_parquet(path)
            if "task" in frame.columns:
                frames[checkpoint] = frame.filter(pl.col("status").is_in(["scored", "abstained"]))
    tasks = sorted({task for frame in frames.values() for task in frame["task"].unique().to_list()})
    rows: list[Row] = []
    for task in tasks:
        cells: dict[str, float] = {}
        number = 0
        for checkpoint, frame in frames.items():
            correct = frame.filter(pl.col("task") == task)["correct"].to_numpy()
            number = max(number, len(correct))
            if len(correct):
                cells[checkpoint] = float(correct.mean())
        rows.append({"task": task.replace("_", " ") or "other", "n": number, "cells": cells})
    return list(frames), rows


def stage_bars(seconds: Mapping[str, float]) -> list[Row]:
    """Seconds by stage, with the width of their bars in percent; whole-command entries are no stage."""
    stages = {name: value for name, value in seconds.items() if name != "demo"}
    longest = max(stages.values(), default=0.0) or 1.0
    return [
        {"name": name.replace("_", " "), "seconds": value, "width": round(100 * value / longest, 1)}
        for name, value in stages.items()
    ]


def count_tables(synthesis: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Nested counts as small tables: single numbers together, each mapping by itself."""
    single = [(label(key), value) for key, value in synthesis.items() if isinstance(value, int | float | str)]
    tables = [("totals", single)] if single else []
    for key, value in synthesis.items():
        if isinstance(value, Mapping):
            flat = [(label(name), entry) for name, entry in value.items() if isinstance(entry, int | float | str)]
            if flat:
                tables.append((label(key), flat))
            tables += [
                (f"{label(key)}: {label(name)}", [(label(inner), entry) for inner, entry in part.items()])
                for name, part in value.items()
                if isinstance(part, Mapping) and part
            ]
    return tables


def gate_tables(summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, Any]]]]:
    """What gates, duplicates and contamination came to, as small tables; empty where the recipe asked for none."""
    parts = {name: summary[name] for name in ("gates", "duplicates") if name in summary}
    contamination = summary.get("contamination", {})
    for benchmark, counts in contamination.get("benchmarks", {}).items():
        parts[f"compared with {benchmark}"] = counts
    if contamination:
        parts["contamination"] = {"left_out": contamination["left_out"]}
    return count_tables(parts)


def reflection_table(synthesis: Mapping[str, Any]) -> Row:
    """Yield of reflection: a row a strategy with candidates, kept and refused by reason; empty where there was none."""
    found: Mapping[str, Mapping[str, int]] = synthesis.get("reflection", {})
    fixed = ("candidates", "kept")
    reasons = sorted({name for row in found.values() for name in row if name not in fixed})
    rows = [(label(name), [row.get(key, 0) for key in (*fixed, *reasons)]) for name, row in found.items()]
    return (
        {"columns": [*fixed, *(reason.removeprefix("refused: ") for reason in reasons)], "rows": rows} if rows else {}
    )


def label(key: object) -> str:
    return str(key).replace("_", " ")


def event_counts(run: RunFiles) -> list[Row]:
    """How often each kind of event was recorded, and the bytes that travelled with it as object references."""
    counts: Counter[str] = Counter()
    travelled: Counter[str] = Counter()
    for _, folder in run.seeds:
        for row in read_lines(folder / "events.jsonl"):
            counts[row["kind"]] += 1
            if "bytes" in row and ("reference" in row or "references" in row):
                travelled[row["kind"]] += int(row["bytes"])
    return [{"kind": label(kind), "count": counts[kind], "bytes": travelled.get(kind)} for kind in sorted(counts)]
