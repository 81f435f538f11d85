"""Results as Markdown tables for a paper's appendix: points with one decimal, interval, n, and what stands beside."""

from collections.abc import Sequence
from typing import Any

from residency.training.evaluation.published_scores import BENCHMARKS

Row = dict[str, Any]
LABELS = {
    "dataset": "dataset",
    "checkpoint": "checkpoint",
    "seed": "seed",
    "prompt_mode": "prompt",
    "decoding": "decoding",
    "image": "image",
    "profile": "profile",
}
ALWAYS = ("dataset", "checkpoint")  # a column even where all rows agree


def markdown_table(rows: Sequence[Row]) -> str:
    """`evaluation` rows as one table; labels in which all rows agree stand once, in the line above it."""
    if not rows:
        return "No evaluation row.\n"
    columns, caption = _labels(rows)
    header = [
        *(LABELS[name] for name in columns), "n", "right", "accuracy, %", "95 % interval", "chance, %", "majority, %",
        "abstained", "errors",
    ]  # fmt: skip
    body = [
        [
            *(_label(row, name) for name in columns),
            f"{row['n']:,}",
            f"{row['correct']:,}",
            points(row["accuracy"]),
            interval(row["ci95"]),
            points(row["chance"]),
            points(row["majority"]),
            f"{row['abstained']:,}",
            f"{row['errors']:,}",
        ]
        for row in rows
    ]
    note = (
        "Abstained answers are wrong and inside n; errors are ours and outside n. Intervals: Wilson, on the effective n"
        " where questions share an image or patient."
    )
    return f"{caption}{note}\n\n{_table(header, body, range(len(columns)))}"


def markdown_comparisons(rows: Sequence[Row]) -> str:
    """`comparisons` rows as one table: differences in points on the same questions, and what they are in questions."""
    if not rows:
        return "No comparison.\n"
    columns, caption = _labels(rows, leave=("checkpoint",))
    header = [
        *(LABELS[name] for name in columns),
        "a",
        "b",
        "a − b, points",
        "95 % interval",
        "questions",
        "p (McNemar)",
        "in questions",
    ]
    body = [
        [
            *(_label(row, name) for name in columns),
            str(row["a"]),
            str(row["b"]),
            points(row["difference"], sign=True),
            interval(row["ci95"], sign=True),
            f"{row['questions']:,}",
            f"{row['mcnemar_p']:.3g}" if "mcnemar_p" in row else "–",
            str(row.get("gain", "–")),
        ]
        for row in rows
    ]
    note = (
        "Paired on the same questions; intervals from a bootstrap of whole clusters (images or patients). McNemar's"
        " exact p takes questions as independent."
    )
    return f"{caption}{note}\n\n{_table(header, body, [*range(len(columns) + 2), len(header) - 1])}"


def markdown_seven(means: Sequence[Row]) -> str:
    """Rows of ``seven_means`` above the published ones; a mean that may not be formed says what is missing."""
    if not means:
        return "None of the seven benchmarks was evaluated.\n"
    header = ["model", *BENCHMARKS, "mean", "95 % interval"]
    body, notes = [], []
    for row in means:
        seed = "all seeds" if row["seed"] is None else f"seed {row['seed']}"
        name = f"{row['checkpoint']} ({row['prompt_mode']}, {row['decoding']}, {row['profile']}, {seed})"
        cells = [points(row["accuracies"].get(benchmark)) for benchmark in BENCHMARKS]
        body.append([f"**{name}**", *cells, points(row["mean"]), interval(row["ci95"])])
        if row["missing"]:
            notes.append(f"No mean for {name}: {'; '.join(row['missing'])}.")
    for score in means[0]["published"]:
        cells = [f"{score['percent'][benchmark]:.1f}" for benchmark in BENCHMARKS]
        body.append([score["model"], *cells, f"{score['mean']:.1f}", "–"])
    notes.append(f"Rows without an interval are published ones ({means[0]['source']}), under that work's own scoring.")
    return _table(header, body, [0]) + "\n" + "".join(f"{note}\n" for note in notes)


def points(value: float | None, *, sign: bool = False) -> str:
    """A share as points with one decimal; a dash for none."""
    return "–" if value is None else f"{100 * value:{'+' if sign else ''}.1f}".replace("-", "−")


def interval(bounds: Sequence[float] | None, *, sign: bool = False) -> str:
    return "–" if bounds is None else f"{points(bounds[0], sign=sign)} to {points(bounds[1], sign=sign)}"


def _labels(rows: Sequence[Row], leave: Sequence[str] = ()) -> tuple[list[str], str]:
    """The label columns, and a line with the labels in which all rows agree."""
    present = [name for name in LABELS if name not in leave and any(name in row for row in rows)]
    shared = [name for name in present if name not in ALWAYS and len({_label(row, name) for row in rows}) == 1]
    caption = "; ".join(f"{LABELS[name]}: {_label(rows[0], name)}" for name in shared)
    return [name for name in present if name not in shared], f"{caption}. " if caption else ""


def _label(row: Row, name: str) -> str:
    value = row.get(name, "–")
    return "pooled" if name == "seed" and value is None else str(value)


def _table(header: Sequence[str], body: Sequence[Sequence[str]], words: Sequence[int]) -> str:
    """Columns padded, so that it can be read as it stands; the columns ``words`` to the left, numbers to the right."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (header, *body)]
    width = [max(3, *(len(line[column]) for line in cells)) for column in range(len(header))]

    def line(texts: Sequence[str]) -> str:
        padded = [
            text.ljust(size) if column in words else text.rjust(size)
            for column, (text, size) in enumerate(zip(texts, width, strict=True))
        ]
        return "| " + " | ".join(padded) + " |\n"

    rule = ["-" * size if column in words else "-" * (size - 1) + ":" for column, size in enumerate(width)]
    return line(cells[0]) + line(rule) + "".join(line(texts) for texts in cells[1:])
