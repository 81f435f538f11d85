"""The unweighted mean of the seven benchmarks: given only when all seven are whole, else what is missing.

Its interval combines the sets' own (G. Y. Zou and A. Donner, 2008, Statistics in Medicine 27): the sets are
independent, and for a mean of k the squared distances to each set's limits add up, divided by k². That is the delta
method without its symmetric intervals, which fit badly near 0 and 1.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any

from residency.training.evaluation.published_scores import (
    BENCHMARKS,
    PUBLISHED_N,
    PUBLISHED_SCORES,
    PUBLISHED_SOURCE,
    benchmark_of,
)

Row = dict[str, Any]
LABELS = ("checkpoint", "seed", "prompt_mode", "decoding", "profile")


def seven_means(rows: Sequence[Row]) -> list[Row]:
    """One row for each checkpoint, seed, prompt mode, decoding and profile that sat any of the seven on true images.

    ``{…labels, mean, ci95, accuracies, missing, published, source}``: ``mean`` and ``ci95`` (0–1) are None while
    ``missing`` (sentences) is not empty; ``accuracies`` holds what there is by benchmark, ``published`` the papers'
    rows.
    """
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["image"] == "true" and benchmark_of(row["dataset"]) is not None:
            grouped.setdefault(tuple(row[name] for name in LABELS), []).append(row)
    return [dict(zip(LABELS, key, strict=True)) | _mean(of_key) for key, of_key in grouped.items()]


def _mean(rows: Sequence[Row]) -> Row:
    chosen: dict[str, Row] = {}
    missing = []
    for benchmark in BENCHMARKS:
        candidates = [row for row in rows if benchmark_of(row["dataset"]) == benchmark]
        whole = [row for row in candidates if incomplete(row, benchmark) is None]
        if whole:
            chosen[benchmark] = whole[0]
        elif candidates:
            missing.append("; ".join(f"{row['dataset']}: {incomplete(row, benchmark)}" for row in candidates))
        else:
            missing.append(f"{benchmark}: not evaluated")
    mean = interval = None
    if not missing:
        k = len(BENCHMARKS)
        mean = sum(row["accuracy"] for row in chosen.values()) / k
        below = sqrt(sum((row["accuracy"] - row["ci95"][0]) ** 2 for row in chosen.values())) / k
        above = sqrt(sum((row["ci95"][1] - row["accuracy"]) ** 2 for row in chosen.values())) / k
        interval = [mean - below, mean + above]
    return {
        "mean": mean,
        "ci95": interval,
        "accuracies": {benchmark: row["accuracy"] for benchmark, row in chosen.items()},
        "missing": missing,
        "published": [
            {"model": score.model, "percent": dict(zip(BENCHMARKS, score.percent, strict=True)), "mean": score.mean}
            for score in PUBLISHED_SCORES
        ],
        "source": PUBLISHED_SOURCE,
    }


def incomplete(row: Row, benchmark: str) -> str | None:
    """Why an evaluation row is not the whole benchmark; None where it is."""
    questions = row.get("questions", row["n"]) // row.get("seeds", 1)
    wanted = PUBLISHED_N[benchmark]
    if row["errors"]:
        return f"{row['errors']:,} answers have no score (our own errors)"
    if questions not in wanted:
        return f"{questions:,} questions of {' or '.join(f'{n:,}' for n in wanted)}"
    return None
