"""Where two scoring profiles disagree on the same answers, and what that may come from."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

Row = Mapping[str, Any]
SITTING = ("checkpoint", "dataset", "seed", "prompt_mode", "decoding", "image")
POINTS = 1.0  # a larger difference is pointed out


def compare_profiles(rows: Iterable[Row]) -> list[str]:
    """One sentence for each sitting on which two profiles differ by more than a point, in the rows' order.

    ``rows`` are `evaluation` rows of summary.json. The sentence counts what each profile did without reading an
    answer: abstained, or judged without a readable one (guessed, under medevalkit).
    """
    sittings: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        sittings.setdefault(tuple(row[name] for name in SITTING), {})[row["profile"]] = row
    sentences = []
    for by_profile in sittings.values():
        for a, b in combinations(by_profile.values(), 2):
            points = 100 * (b["accuracy"] - a["accuracy"])
            if abs(points) > POINTS + 1e-9:
                sentences.append(difference(a, b, points))
    return sentences


def difference(a: Row, b: Row, points: float) -> str:
    more, fewer, size = (b, a, points) if points > 0 else (a, b, -points)
    seed = "all seeds" if a["seed"] is None else f"seed {a['seed']}"
    told = [why for row in (more, fewer) for why in reasons(row)]
    n = f"n {more['n']}" if more["n"] == fewer["n"] else f"n {more['n']} and {fewer['n']}"
    return (
        f"{a['checkpoint']} on {a['dataset']} ({a['prompt_mode']}, {a['decoding']}, image {a['image']}, {seed}):"
        f" {more['profile']} gives {size:.1f} points more than {fewer['profile']}"
        f" ({100 * more['accuracy']:.1f} against {100 * fewer['accuracy']:.1f}, {n})."
        f" {'; '.join(told) if told else 'Both read every answer, and judge some of them differently'}."
    )


def reasons(row: Row) -> list[str]:
    """What a profile did where it read no answer, with the number of answers."""
    name, told = row["profile"], []
    if row.get("abstained"):
        told.append(f"{name} abstained on {row['abstained']}, which counts as wrong")
    unread = round(row["n"] * (1 - row["valid_format"])) if name.startswith("medevalkit") else 0
    if unread:
        told.append(f"{name} found no answer in {unread} and guessed or gave up")
    if row.get("errors"):
        told.append(f"{name} has no verdict on {row['errors']}, which are left out")
    return told
