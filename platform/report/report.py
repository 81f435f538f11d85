"""``report.html``: one self-contained page from the run's own files. No script, no request, everything escaped."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from residency.platform.arrow_tables import read_parquet
from residency.platform.records import Example, Item
from residency.platform.report import boards, curves, gallery, tables
from residency.platform.report.run_files import Row, RunFiles, open_run, read_lines

TUTORIAL_NOTE = (
    "This is a tutorial set: tiles of a few example pictures, with drawn lesions. It shows that every part of the loop"
    " works; it is no benchmark and says nothing about medical ability."
)


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into the run's folder from its files, whole; raises DataError where it is no run."""
    page = render(open_run(run_dir))
    target = run_dir / "report.html"
    aside = run_dir / ".report.html.partial"
    aside.write_text(page, encoding="utf-8")
    os.replace(aside, target)
    return target


def render(run: RunFiles) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "duration": duration, "whole": whole, "size": size}
    template = environment.get_template("report.html.j2")
    return template.render(**page_parts(run))


def page_parts(run: RunFiles) -> dict[str, Any]:
    """Everything that the template names."""
    summary, first = run.summary, run.first
    items = gallery.read_items(first)
    pictures = gallery.Pictures(first / "data")
    examples_file = first / "examples.parquet"
    examples = read_parquet(examples_file, Example) if examples_file.is_file() else []
    series = curves.read_series(run)
    evaluation, comparisons = list(summary.get("evaluation", [])), list(summary.get("comparisons", []))
    between, worth = boards.split_comparisons(comparisons)
    checkpoints, task_rows = tables.by_task(first)
    strategies, pairs = gallery.strategy_pairs(examples)
    name = str(run.recipe.get("name", run.path.name))
    return {
        "style": Markup((Path(__file__).parent / "report.css").read_text()),
        "name": name,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "facts": header_facts(run),
        "notes": notes(run),
        "tiles": tiles(evaluation, comparisons, run),
        "settings": boards.settings(evaluation),
        "profile_label": boards.lead_profile(evaluation),
        "profile_rows": boards.profile_rows(evaluation),
        "profile_notes": list(summary.get("profile_differences", [])),
        "seven": boards.seven_mean_table(summary.get("seven_means", [])),
        "image_settings": boards.image_settings(evaluation),
        "image_worth": worth,
        "worth_table": boards.worth_table(worth),
        "slices": boards.slice_panels(summary.get("slices", [])),
        "comparisons": between,
        "many": len({row["dataset"] for row in evaluation}) > 1,
        "seed_rows": seed_rows(comparisons),
        "checkpoints": [(key, tables.name_of(key)) for key in checkpoints],
        "task_rows": task_rows,
        "rl_curves": [(curve, Markup(curve.svg)) for curve in curves.draw(curves.RL_PLANS, series)],
        "sft_curves": [(curve, Markup(curve.svg)) for curve in curves.draw(curves.SFT_PLANS, series)],
        "cards": gallery.gallery(first, items, pictures),
        "served": served(run, items, pictures),
        "lessons": gallery.lessons(examples, items, pictures),
        "strategies": strategies,
        "pairs": pairs,
        "counts": tables.count_tables({k: v for k, v in summary.get("synthesis", {}).items() if k != "reflection"}),
        "reflection": tables.reflection_table(summary.get("synthesis", {})),
        "gated": tables.gate_tables(summary if "gates" in summary else read_summary_of(first)),
        "difficulty": summary.get("difficulty", {}),
        "stages": tables.stage_bars(summary.get("seconds", {})),
        "total_seconds": sum(value for key, value in summary.get("seconds", {}).items() if key != "demo"),
        "events": tables.event_counts(run),
        "versions": sorted(summary.get("versions", {}).items()),
        "recipe_text": yaml.safe_dump(dict(run.recipe), sort_keys=False, allow_unicode=True) if run.recipe else "",
        "profile_text": yaml.safe_dump(dict(run.profile), sort_keys=False, allow_unicode=True) if run.profile else "",
        "checkpoint_name": tables.name_of,
    }


def header_facts(run: RunFiles) -> list[tuple[str, str]]:
    """What the run is, in a few pairs: student, data, seeds, profile."""
    student, data = run.recipe.get("student", {}), run.summary.get("data", {})
    if not data:
        data = read_summary_of(run.first).get("data", {})
    counts = data.get("counts", {})
    model = student.get("model", "")
    facts = [
        ("student", "tiny Qwen2.5-VL, built on the spot" if model == "tiny" else str(model)),
        ("data", str(data.get("name", run.recipe.get("data", {}).get("format", "")))),
        ("items", ", ".join(f"{number} {split.replace('_', '-')}" for split, number in counts.items())),
        ("seeds", ", ".join(str(seed) for seed in run.recipe.get("seeds", []))),
        ("profile", str(run.profile.get("name", ""))),
    ]
    return [(key, value) for key, value in facts if value]


def notes(run: RunFiles) -> list[str]:
    """What a reader must know before quoting a number."""
    data = run.summary.get("data") or read_summary_of(run.first).get("data", {})
    found = [str(data["note"])] if data.get("note") else []
    if run.recipe.get("data", {}).get("format") == "starter":
        found.insert(0, TUTORIAL_NOTE)
    if run.recipe.get("student", {}).get("model") == "tiny":
        found.append("The student has a few million parameters and was trained from scratch within this run.")
    return found


def served(run: RunFiles, items: Mapping[str, Item], pictures: gallery.Pictures) -> Row:
    """The question that the served model was asked, with its picture; empty where none was asked yet."""
    asked = run.summary.get("served", {})
    if not asked:
        return {}
    item = items.get(asked["item_id"])
    return dict(asked) | {"pictures": pictures.urls(item.media) if item else ()}


def read_summary_of(folder: Path) -> Row:
    """One seed's own summary, or nothing."""
    return dict(open_run(folder).summary) if (folder / "summary.json").is_file() else {}


def tiles(evaluation: list[Row], comparisons: list[Row], run: RunFiles) -> list[Row]:
    """The few numbers one looks for first; each with its interval or its n."""
    rows = {
        (row["checkpoint"], row["decoding"]): row
        for row in reversed(boards.leading(evaluation))  # the first one stays: the run's own dataset
        if (row["prompt_mode"], row["image"]) == ("think", "true")
    }
    decoding = next((name for name in ("sampled", "greedy") if ("sft", name) in rows or ("rl", name) in rows), "greedy")
    found: list[Row] = []
    for checkpoint in ("sft", "rl") if any(key[0] != "base" for key in rows) else ("base",):
        row = rows.get((checkpoint, decoding))
        if row:
            found.append(
                {
                    "value": percent(row["accuracy"]) + " %",
                    "title": f"{tables.name_of(checkpoint)}, {decoding} accuracy",
                    "detail": f"{percent(row['ci95'][0])} to {percent(row['ci95'][1])}, n = {whole(row['n'])}",
                }
            )
    for row in tables.shown_rows(comparisons):
        if (row["a"], row["b"], row["decoding"], row["prompt_mode"]) == ("rl", "sft", decoding, "think"):
            found.append(
                {
                    "value": points(row["difference"]),
                    "title": "RL minus SFT, points",
                    "detail": f"{points(row['ci95'][0])} to {points(row['ci95'][1])}, n = {whole(row['n'])}",
                }
            )
            break
    seconds = sum(value for key, value in run.summary.get("seconds", {}).items() if key != "demo")
    if seconds:
        found.append({"value": duration(seconds), "title": "all stages together", "detail": "on this profile"})
    updates = sum(
        row["kind"] == "weights_updated" for _, folder in run.seeds for row in read_lines(folder / "events.jsonl")
    )
    if updates:
        found.append({"value": whole(updates), "title": "weight updates", "detail": "proven by the engine's echo"})
    return found


def seed_rows(comparisons: list[Row]) -> list[Row]:
    """Each seed's own comparisons, where pooled ones stand above them."""
    if not any(row.get("seed") is None for row in comparisons):
        return []
    return [row for row in comparisons if row.get("seed") is not None]


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def whole(value: float) -> str:
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def size(num_bytes: float | None) -> str:
    if not num_bytes:
        return ""
    for unit in ("B", "KB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return ""
