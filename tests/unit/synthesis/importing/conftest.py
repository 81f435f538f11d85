"""Importing a few rows in one call."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from residency.platform.dataset_folder import Dataset, read_dataset
from residency.synthesis.importers import ROW_FORMATS
from residency.synthesis.importing.column_map import parse_map
from residency.synthesis.importing.item_builder import ImportSettings
from residency.synthesis.importing.row_import import ImportOutcome, import_rows
from residency.synthesis.importing.source_row import ReadOptions
from residency.synthesis.importing.splits import SplitPlan

Importing = Callable[..., tuple[ImportOutcome, Dataset]]


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    """``importing(format, source, columns="a=b", split="train", **ReadOptions)`` → the outcome, and the dataset."""
    number = 0

    def run(name: str, source: Path, columns: str = "", split: str = "train", **options: Any) -> Any:
        nonlocal number
        number += 1
        row_format = ROW_FORMATS[name]
        out = tmp_path / f"out-{number}"
        read = ReadOptions(columns=parse_map([columns], row_format.fields), **options)
        settings = ImportSettings(name="set", licence="CC0", plan=SplitPlan.parse(split, 0))
        return import_rows(row_format, source, out, read, settings), read_dataset(out)

    return run


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[[Sequence[Any]], Path]:
    """Writes rows as JSON lines; a text is a line as it is."""

    def write(rows: Sequence[Any]) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return path

    return write
