"""The SFT mixture: examples by quota of target, family and modality, with an honest report where one could not be met.

The examples stay in Arrow: of each row only its keys are looked at, so that a million of them fit.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from residency.platform.arrow_tables import SCHEMAS, to_table
from residency.platform.records import Example, Family, Item, Target, short_hash
from residency.platform.synthesis_config import MixtureConfig

KEYS = ("id", "item_id", "target", "family")
ROWS_AT_ONCE = 20_000
MODALITIES_SCHEMA = pa.schema([("item_id", pa.string()), ("modality", pa.string())])


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureReport:
    """What was wanted and what was got, by target and by family (examples).

    ``wanted_families`` is empty where the recipe takes the families as the data has them. ``got_modalities`` is empty
    where no modalities were given. ``notes`` says in words which quota could not be met.
    """

    total: int
    available: int
    wanted_targets: Mapping[str, int]
    got_targets: Mapping[str, int]
    wanted_families: Mapping[str, int]
    got_families: Mapping[str, int]
    got_modalities: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers by share that sum to ``total`` (largest remainder; ties go to the first key)."""
    weight = sum(shares.values())
    if not weight:
        return dict.fromkeys(shares, 0)
    exact = {key: total * share / weight for key, share in shares.items()}
    whole = {key: int(value) for key, value in exact.items()}
    missing = total - sum(whole.values())
    for key in sorted(exact, key=lambda key: whole[key] - exact[key])[:missing]:
        whole[key] += 1
    return whole


def fill(total: int, shares: Mapping[str, float], available: Mapping[str, int]) -> dict[str, int]:
    """Like ``apportion``, but never above what is available: what one key lacks, the others give by their shares."""
    got = dict.fromkeys(shares, 0)
    open_shares = {key: share for key, share in shares.items() if share > 0}
    while open_shares and (left := total - sum(got.values())) > 0:
        for key, number in apportion(left, open_shares).items():
            got[key] = min(available[key], got[key] + number)
        open_shares = {key: share for key, share in open_shares.items() if got[key] < available[key]}
    return got


def modality_of(item: Item) -> str:
    """As the importer noted it, else whether there is an image."""
    return str(item.metadata.get("modality") or ("image" if item.media else "text"))


def modalities_table(items: Iterable[Item]) -> pa.Table:
    rows = [(item.id, modality_of(item)) for item in items]
    ids, modalities = ([row[column] for row in rows] for column in (0, 1))
    return pa.table({"item_id": ids, "modality": modalities}, schema=MODALITIES_SCHEMA)


def shortfalls(name: str, wanted: Mapping[str, int], got: Mapping[str, int]) -> list[str]:
    return [
        f"{name} {key}: wanted {wanted[key]}, there were {got[key]}; the others filled the place"
        for key in wanted
        if got[key] < wanted[key]
    ]


def as_table(examples: pa.Table | Iterable[Example]) -> pa.Table:
    """The table itself, or records put into one, some at a time."""
    if isinstance(examples, pa.Table):
        return examples
    rows, pieces = iter(examples), [SCHEMAS[Example].empty_table()]
    while piece := list(itertools.islice(rows, ROWS_AT_ONCE)):
        pieces.append(to_table(piece, Example))
    return pa.concat_tables(pieces)


def shuffled(table: pa.Table, modalities: pa.Table | None, seed: int) -> pl.DataFrame:
    """A row for each different example in chance order: row number, keys, modality, and the item's how-manieth it is.

    The order depends on ids and seed alone: an example that comes from two sources counts once.
    """
    frame = pl.DataFrame(pl.from_arrow(table.select(KEYS))).with_row_index("row").sort("id")
    frame = frame.unique("id", keep="first", maintain_order=True)
    if modalities is None:
        frame = frame.with_columns(modality=pl.lit(""))
    else:
        known = pl.DataFrame(pl.from_arrow(modalities)).unique("item_id", keep="first")
        frame = frame.join(known, on="item_id", how="left", maintain_order="left")
        frame = frame.with_columns(pl.col("modality").fill_null("unknown"))
    order = np.random.default_rng(int(short_hash("mixture", str(seed)), 16)).permutation(frame.height)
    return frame[order]


def pick(cell: pl.DataFrame, number: int, balanced: bool) -> pl.DataFrame:
    """``number`` rows of a cell, every item once before any comes twice; ``balanced``: modalities equally often."""
    if balanced:
        sizes = dict(cell.group_by("modality").len().sort("modality").iter_rows())
        parts = fill(number, dict.fromkeys(sizes, 1.0), sizes)
        return pl.concat([pick(cell.filter(pl.col("modality") == name), part, False) for name, part in parts.items()])
    turns = cell.with_columns(turn=pl.int_range(pl.len()).over("item_id"))
    return turns.sort("turn", maintain_order=True).head(number).drop("turn")


def mix(
    examples: pa.Table | Iterable[Example], config: MixtureConfig, seed: int, modalities: pa.Table | None = None
) -> tuple[pa.Table, MixtureReport]:
    """The mixture in training order and its report; the same examples and seed give the same rows in any input order.

    Targets are filled first, then families within each target. A target or family that the recipe leaves out or gives
    the share 0 is switched off, also as a filler. Without a number all that is switched on is taken. ``modalities``
    (``MODALITIES_SCHEMA``) is needed to balance them.
    """
    table = as_table(examples)
    targets = {target.value: share for target in Target if (share := config.targets.get(target.value, 0.0)) > 0}
    by_share = config.families
    families = {f.value: s for f in Family if (s := 1.0 if by_share is None else by_share.get(f.value, 0.0)) > 0}
    frame = shuffled(table, modalities, seed)
    frame = frame.filter(pl.col("target").is_in(list(targets)) & pl.col("family").is_in(list(families)))
    balanced = config.balance_modalities and frame.height > 0
    available, asked = frame.height, config.num_examples
    total = available if asked is None else min(asked, available)
    sizes = {(t, f): n for t, f, n in frame.group_by("target", "family").len().iter_rows()}
    of_target = {t: sum(sizes.get((t, f), 0) for f in families) for t in targets}
    chosen = [frame.head(0)]
    for target, number in fill(total, targets, of_target).items():
        cell = frame.filter(pl.col("target") == target)
        if by_share is None:
            chosen.append(pick(cell, number, balanced and number > 0))
            continue
        parts = fill(number, families, {f: sizes.get((target, f), 0) for f in families})
        chosen += [pick(cell.filter(pl.col("family") == f), n, balanced and n > 0) for f, n in parts.items()]
    picked = pl.concat(chosen)
    order = np.random.default_rng(int(short_hash("order", str(seed)), 16)).permutation(picked.height)
    rows = picked["row"].to_numpy()[order]
    return table.take(pa.array(rows)), report_of(picked, config, targets, families, available)


def report_of(
    picked: pl.DataFrame,
    config: MixtureConfig,
    targets: Mapping[str, float],
    families: Mapping[str, float],
    available: int,
) -> MixtureReport:
    total, asked = picked.height, config.num_examples
    wanted_total = total if asked is None else asked
    counts = {
        name: dict(picked.group_by(name).len().sort(name).iter_rows()) for name in ("target", "family", "modality")
    }
    got_targets = {target: counts["target"].get(target, 0) for target in targets}
    got_families = {family: counts["family"].get(family, 0) for family in families}
    wanted_targets = apportion(wanted_total, targets)
    wanted_families = {} if config.families is None else apportion(wanted_total, families)
    notes = shortfalls("target", wanted_targets, got_targets) + shortfalls("family", wanted_families, got_families)
    if asked is not None and total < asked:
        notes.append(f"wanted {asked} examples, there were {total}")
    return MixtureReport(
        total=total,
        available=available,
        wanted_targets=wanted_targets,
        got_targets=got_targets,
        wanted_families=wanted_families,
        got_families=got_families,
        got_modalities={name: number for name, number in counts["modality"].items() if name},
        notes=tuple(notes),
    )
