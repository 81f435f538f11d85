"""Two runs against each other, sitting by sitting, on the same questions under the same conditions or not at all."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from residency.platform.errors import DataError
from residency.training.evaluation.comparisons import Row, comparison_row


@dataclass(frozen=True, kw_only=True, order=True, slots=True)
class SittingKey:
    """What two sittings must share to be compared. ``profile`` is the label with version, as ``strict-1``."""

    checkpoint: str
    dataset: str
    dataset_hash: str
    prompt_mode: str
    decoding: str
    image: str
    profile: str

    def __str__(self) -> str:
        return (
            f"{self.checkpoint} on {self.dataset} ({self.prompt_mode}, {self.decoding}, {self.image} images,"
            f" {self.profile})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A sitting that was not compared, and why."""

    sitting: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunComparison:
    """``rows`` as in summary.json's `comparisons`, with ``checkpoint`` and ``profile``; ``refused`` with reasons."""

    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]


def compare_runs(
    a: Mapping[SittingKey, pl.DataFrame],
    b: Mapping[SittingKey, pl.DataFrame],
    *,
    a_name: str,
    b_name: str,
    resamples: int = 2000,
) -> RunComparison:
    """A row a minus b for every sitting that both runs have; a reason for every other one.

    Where the runs have the same seeds, seeds are paired; else the answers of a question are averaged over the seeds,
    and the row's ``method`` says so.
    """
    rows: list[Row] = []
    refused: list[Refused] = []
    for key, outcomes in sorted(a.items(), key=lambda pair: pair[0]):
        if key not in b:
            refused.append(Refused(sitting=f"{a_name}: {key}", reason=_why_not(key, b, b_name)))
            continue
        try:
            rows.append(_row(key, outcomes, b[key], a_name, b_name, resamples))
        except DataError as error:
            refused.append(Refused(sitting=str(key), reason=str(error)))
    refused += [
        Refused(sitting=f"{b_name}: {key}", reason=_why_not(key, a, a_name)) for key in sorted(b) if key not in a
    ]
    return RunComparison(rows=tuple(rows), refused=tuple(refused))


def _row(key: SittingKey, a: pl.DataFrame, b: pl.DataFrame, a_name: str, b_name: str, resamples: int) -> Row:
    seeds = sorted(a["seed"].unique().to_list())
    paired = seeds == sorted(b["seed"].unique().to_list())
    if not paired:
        a, b = _without_seeds(a), _without_seeds(b)
    row = comparison_row(
        a,
        b,
        a_name=f"{key.checkpoint} of {a_name}",
        b_name=f"{key.checkpoint} of {b_name}",
        dataset=key.dataset,
        seed=seeds[0] if paired and len(seeds) == 1 else None,
        prompt_mode=key.prompt_mode,
        decoding=key.decoding,
        image=key.image,
        resamples=resamples,
    )
    if not paired:
        row["method"] += "; other seeds on either side: averaged within a question, their spread is not in the interval"
    return row | {"checkpoint": key.checkpoint, "profile": key.profile}


def _without_seeds(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The answers of all seeds as samples of one."""
    numbered = outcomes.with_columns(sample_index=pl.int_range(pl.len()).over("dataset", "item_id").cast(pl.Int32))
    return numbered.with_columns(seed=pl.lit(0, dtype=pl.Int64))


def _why_not(key: SittingKey, other: Mapping[SittingKey, Any], other_name: str) -> str:
    """What the other run has instead: the nearest difference, told before the farther ones."""
    for changed, words in (
        ("dataset_hash", "other questions: its {} has the content hash {}, this one {}"),
        ("profile", "scored by another profile or version: {1} instead of {2}; score one of them again"),
    ):
        near = next((k for k in other if replace(k, **{changed: getattr(key, changed)}) == key), None)
        if near is not None:
            theirs, ours = str(asdict(near)[changed])[:12], str(asdict(key)[changed])[:12]
            return f"{other_name} has " + words.format(key.dataset, theirs, ours)
    return f"{other_name} has no such sitting"
