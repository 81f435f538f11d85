"""The boards on the page: accuracy by set, what the image is worth, slices, and what another scoring profile says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from residency.platform.report.run_files import Row
from residency.platform.report.tables import CHECKPOINT_STYLE, comparison_rows, label, name_of, shown_rows

IMAGE_NAME = {
    "true": "true image", "blank": "blank image", "shuffled": "another question's image", "none": "no image",
}  # fmt: skip
WITH_IMAGE = {"blank": "a blank image", "shuffled": "another question's image", "none": "no image"}
LANE = 11  # pixels between the checkpoints of one value


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """Rows of one dataset that stand under each other, each with ``name`` and ``style``."""

    dataset: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What can be read against each other: one prompt mode and decoding, all datasets."""

    title: str
    boards: tuple[Board, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SlicePanel:
    """One slice of one dataset: ``values`` are rows ``{value, pooled, n, height, lanes}``, a lane a checkpoint."""

    title: str
    note: str
    values: tuple[Row, ...]
    legend: tuple[tuple[str, str], ...]  # style, name


def lead_profile(rows: Sequence[Row]) -> str:
    """The profile that leads: that of the first row."""
    return str(rows[0].get("profile", "")) if rows else ""


def leading(rows: Sequence[Row]) -> list[Row]:
    """The pooled rows (where there are several seeds) of the leading profile, in their order."""
    return [row for row in shown_rows(rows) if str(row.get("profile", "")) == lead_profile(rows)]


def told(row: Row) -> Row:
    """The row with its checkpoint's name and style."""
    return row | {"name": name_of(row["checkpoint"]), "style": CHECKPOINT_STYLE.get(row["checkpoint"], "c-other")}


def title_of(prompt_mode: str, decoding: str) -> str:
    return f"{'reasoned' if prompt_mode == 'think' else 'direct'} answers, {decoding}"


def grouped(rows: Sequence[Row], wanted_images: bool) -> dict[tuple[str, str], dict[str, list[Row]]]:
    """(prompt mode, decoding) → dataset → rows; reasoned and greedy first. ``wanted_images``: of every condition."""
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in leading(rows):
        if wanted_images or row["image"] == "true":
            boards = found.setdefault((row["prompt_mode"], row["decoding"]), {})
            boards.setdefault(row["dataset"], []).append(told(row))
    return dict(sorted(found.items(), key=lambda entry: (entry[0][0] != "think", entry[0][1] != "greedy")))


def settings(rows: Sequence[Row]) -> list[Setting]:
    """Accuracy on true images by setting and dataset, under the leading profile."""
    return [
        Setting(title=title_of(*key), boards=tuple(Board(dataset=name, rows=tuple(of)) for name, of in boards.items()))
        for key, boards in grouped(rows, wanted_images=False).items()
    ]


def image_settings(rows: Sequence[Row]) -> list[Setting]:
    """Accuracy by image condition, checkpoint by checkpoint, for each dataset that was also asked on other images."""
    order = list(IMAGE_NAME)
    found = []
    for key, boards in grouped(rows, wanted_images=True).items():
        kept = []
        for dataset, of_board in boards.items():
            several = {row["checkpoint"] for row in of_board if row["image"] != "true"}
            shown = [
                row | {"name": f"{row['name']}, {IMAGE_NAME.get(row['image'], row['image'])}"}
                for checkpoint in dict.fromkeys(row["checkpoint"] for row in of_board)
                if checkpoint in several
                for row in sorted(of_board, key=lambda row: order.index(row["image"]) if row["image"] in order else 9)
                if row["checkpoint"] == checkpoint
            ]
            if shown:
                kept.append(Board(dataset=dataset, rows=tuple(shown)))
        if kept:
            found.append(Setting(title=title_of(*key), boards=tuple(kept)))
    return found


def split_comparisons(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """(checkpoint against checkpoint, a checkpoint against itself on other images), placed on an axis each."""
    worth = [row for row in rows if "@" in str(row["b"]) and str(row["b"]).split("@")[0] == row["a"]]
    return comparison_rows([row for row in rows if row not in worth]), [
        row | {"words": image_words(row)} for row in comparison_rows(worth)
    ]


def worth_table(worth: Sequence[Row]) -> Mapping[str, Any]:
    """The placed rows as a table: ``conditions`` (key, title), ``rows`` {dataset, name, how, cells by condition}."""
    present = {str(row["b"]).split("@")[1] for row in worth}
    keys = [key for key in IMAGE_NAME if key in present] + sorted(present - set(IMAGE_NAME))
    seeds = {row.get("seed") for row in worth}
    rows: dict[tuple[Any, ...], Row] = {}
    for row in worth:
        key = (row["dataset"], row["a"], row["prompt_mode"], row["decoding"], row.get("seed"))
        how = f"{row['prompt_mode']}, {row['decoding']}" + (f", seed {key[4]}" if len(seeds) > 1 else "")
        start = {"dataset": key[0], "name": row["a_name"], "how": how, "questions": 0, "cells": {}}
        line = rows.setdefault(key, start)
        line["cells"][str(row["b"]).split("@")[1]] = row
        line["questions"] = max(line["questions"], row["questions"])
    return {"conditions": [(key, WITH_IMAGE.get(key, key)) for key in keys], "rows": list(rows.values())}


def image_words(row: Row) -> str:
    """What an interval allows to say of the image's worth."""
    low, high = row["ci95"]
    condition = WITH_IMAGE.get(str(row["b"]).split("@")[1], "another image")
    if low > 0:
        return f"The true image helps: with {condition} fewer answers are right."
    if high < 0:
        return f"With {condition} more answers are right than with the true one: look at how the set was made."
    return f"It is not shown that the image is used: {condition} may do as well."


def slice_panels(rows: Sequence[Row]) -> list[SlicePanel]:
    """Accuracy by slice on true images, each dataset in its first setting (reasoned and greedy, where there is one)."""
    panels = []
    chosen: dict[str, tuple[str, str]] = {}
    for key, boards in grouped(rows, wanted_images=False).items():
        for dataset in boards:
            chosen.setdefault(dataset, key)
    kept = [
        told(row)
        for row in leading(rows)
        if row["image"] == "true" and chosen.get(row["dataset"]) == (row["prompt_mode"], row["decoding"])
    ]
    for dataset, name in dict.fromkeys((row["dataset"], row["slice"]) for row in kept):
        of_slice = [row for row in kept if (row["dataset"], row["slice"]) == (dataset, name)]
        legend = dict.fromkeys((row["style"], row["name"]) for row in of_slice)
        values = []
        for value in dict.fromkeys(row["value"] for row in of_slice):
            lanes = [row for row in of_slice if row["value"] == value]
            values.append(
                {
                    "value": label(value),
                    "pooled": lanes[0].get("pooled", []),
                    "questions": max(row.get("questions", row["n"]) for row in lanes),
                    "height": LANE * len(lanes) + 5,
                    "lanes": [
                        row | {"top": LANE * number + 8} for number, row in enumerate(lanes) if row["ci95"] is not None
                    ],
                }
            )
        title = f"{dataset}: by {label(name)}" if len(chosen) > 1 else f"by {label(name)}"
        panels.append(
            SlicePanel(title=title, note=title_of(*chosen[dataset]), values=tuple(values), legend=tuple(legend))
        )
    return panels


def profile_rows(rows: Sequence[Row]) -> list[Row]:
    """What the other profiles make of the same answers: ``{…row, lead, lead_accuracy, change}``."""
    lead = lead_profile(rows)
    keys = ("checkpoint", "dataset", "seed", "prompt_mode", "decoding", "image")
    shown = shown_rows(rows)
    of_lead = {tuple(row.get(key) for key in keys): row for row in shown if str(row.get("profile", "")) == lead}
    found = []
    for row in shown:
        other = of_lead.get(tuple(row.get(key) for key in keys))
        if str(row.get("profile", "")) != lead and other is not None:
            change = row["accuracy"] - other["accuracy"]
            found.append(told(row) | {"lead": lead, "lead_row": other, "change": change})
    return found


def seven_mean_table(means: Sequence[Row]) -> Mapping[str, Any]:
    """The mean of seven as a table: ``benchmarks``, ``ours``, ``missing`` (why, for whom) and ``published``."""
    if not means:
        return {}
    published = means[0]["published"]
    ours = [
        told(row) | {"title": f"{row['prompt_mode']}, {row['decoding']}, {row['profile']}"} for row in shown_rows(means)
    ]
    missing: dict[str, list[str]] = {}
    for row in ours:
        if row["missing"]:
            missing.setdefault("; ".join(row["missing"]), []).append(f"{row['name']} ({row['title']})")
    return {
        "benchmarks": list(published[0]["percent"]) if published else list(means[0]["accuracies"]),
        "ours": ours,
        "missing": [(reason, ", ".join(names)) for reason, names in missing.items()],
        "published": published,
        "source": means[0]["source"],
    }
