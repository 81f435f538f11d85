"""The README of an export: what it holds, under which licences, how it was made and checked, and how to load it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from residency.synthesis.exports.chat_formats import Form
from residency.synthesis.exports.export_rows import ExportRow, ExportSource

COUNTED = ("split", "family", "target", "modality", "source", "licence")
NOT_DONE = {
    "gates": "No gates are on record: nothing says that bad rows, or rows whose licences forbid it, were taken out.",
    "contamination": "No contamination report is on record: do not assume that benchmarks are absent from these rows.",
}
METHOD = "The method follows InfiMed (arXiv:2505.23867)."


@dataclass(slots=True)
class Tally:
    """Counts of the rows that went out."""

    rows: int = 0
    images: int = 0
    partly_taught: int = 0
    with_patient: int = 0
    by: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in COUNTED})

    def add(self, row: ExportRow) -> None:
        self.rows += 1
        self.partly_taught += row.taught_from > 0
        self.with_patient += row.names_patient
        for name in COUNTED:
            self.by[name][str(getattr(row, name))] += 1


def write_card(source: ExportSource, form: Form, tally: Tally) -> str:
    """The whole README in Markdown, with the header that Hugging Face's hub reads."""
    files = [{"split": split, "path": f"{split}.jsonl"} for split in sorted(tally.by["split"])]
    header = {
        "pretty_name": source.name,
        "license": "other",
        "license_name": "see-below",
        "tags": ["medical"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n",
        f"# {source.name}\n",
        f"{tally.rows:,} chats, {'their images within' if form.inline else f'{tally.images:,} images'}, written by"
        f" `residency export` as {form.name}.\n",
        *(count_table(name, tally.by[name], tally.rows) for name in COUNTED),
        "## Licences\n\nEach row keeps the licence of its source (the table above; in a row, `residency` → `licence`)."
        f" {licence_warning(tally)}\n",
        made_section(source, tally),
        report_section("Gates", source.reports.get("gates"), NOT_DONE["gates"]),
        *([report_section("Duplicates", source.reports["duplicates"], "")] if "duplicates" in source.reports else []),
        report_section("Contamination", source.reports.get("contamination"), NOT_DONE["contamination"]),
        load_section(source, form, files),
        f"## Citation\n\nCite the sources: {source.card.source}.{f' {METHOD}' if source.examples else ''}\n",
    ]
    return "\n".join(parts)


def licence_warning(tally: Tally) -> str:
    unknown = sum(count for name, count in tally.by["licence"].items() if "unknown" in name.lower() or not name)
    return f"**{unknown:,} rows have no known licence: ask their owners before you pass them on.**" if unknown else ""


def count_table(title: str, counts: Counter[str], rows: int) -> str:
    """Rows by one property, the commonest first."""
    lines = [f"| {title} | rows | share |", "|---|--:|--:|"]
    lines += [f"| {cell(name)} | {n:,} | {100 * n / rows:.1f} % |" for name, n in counts.most_common()]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def made_section(source: ExportSource, tally: Tally) -> str:
    """Where the rows come from, by the dataset's card and the run's recipe."""
    card = source.card
    lines = [f"- data: {card.name}, {cell(card.source)}", f"- splits: {cell(card.splits)}"]
    lines += [f"- note: {cell(card.note)}"] if card.note else []
    lines += [f"- left out at import, {cell(reason)}: {count}" for reason, count in card.skipped.items()]
    lines.append(f"- content hash of the data: `{card.content_hash}`")
    lines += [f"- {line}" for line in flat(source.made)]
    if tally.with_patient:
        lines.append(
            f"- **{tally.with_patient:,} rows name a patient** (`residency` → `patient_id`), as the source does or as a"
            " salted hash: make sure that it is no identifier before you pass them on"
        )
    if tally.partly_taught:
        lines.append(
            f"- {tally.partly_taught:,} reflective rows begin with a wrong part that Residency takes out of the loss"
            " (`residency` → `example.loss_start`, characters); neither format can say so: a trainer that reads them"
            " teaches the wrong part too, or must cut there"
        )
    return "## How it was made\n\n" + "\n".join(lines) + "\n"


def report_section(title: str, report: Any, absent: str) -> str:
    body = "\n".join(f"- {line}" for line in flat(report)) if report else absent
    return f"## {title}\n\n{body}\n"


def flat(value: Any, path: str = "") -> list[str]:
    """Nested values as lines ``a.b: value``."""
    if isinstance(value, Mapping):
        return [line for name, inner in value.items() for line in flat(inner, f"{path}.{name}" if path else str(name))]
    if isinstance(value, (list, tuple)) and any(isinstance(inner, Mapping) for inner in value):
        return [line for number, inner in enumerate(value) for line in flat(inner, f"{path}[{number}]")]
    written = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return [f"{path}: {cell(written)}"]


def load_section(source: ExportSource, form: Form, files: list[dict[str, str]]) -> str:
    """How the tool that the format is for loads it."""
    first = files[0]["split"]
    if form.name == "sharegpt":
        name = f"{file_name(source.name)}_{first}"
        code = f"llamafactory-cli train … --dataset_dir THIS_FOLDER --media_dir THIS_FOLDER --dataset {name}"
        return f"## Load it\n\n`dataset_info.json` names each file for LLaMA-Factory:\n\n```\n{code}\n```\n"
    lines = [
        "from datasets import Image, List, load_dataset",
        "",
        f'rows = load_dataset("json", data_files="{first}.jsonl", split="train")',
    ]
    if form.has_images and not form.inline:
        lines.append('rows = rows.cast_column("images", List(Image()))  # names are relative: run it in this folder')
    told = "TRL's `SFTTrainer` takes these rows as they are." if not form.inline else "Each line is one chat request."
    return "## Load it\n\n```python\n" + "\n".join(lines) + f"\n```\n\n{told}\n"


def file_name(name: str) -> str:
    """A name without blanks and slashes, for ``dataset_info.json``."""
    return "_".join("".join(letter if letter.isalnum() else " " for letter in name).split()).lower() or "data"
