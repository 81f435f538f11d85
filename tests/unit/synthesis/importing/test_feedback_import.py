"""A server's feedback folder → items: only what its own caller rated, corrected or confirmed, and nobody's name."""

import json
from pathlib import Path
from typing import Any

import pytest

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import DataError
from residency.platform.prompts import THINK_INSTRUCTION
from residency.synthesis.importers import ROW_FORMATS
from residency.synthesis.importing.item_builder import ImportSettings
from residency.synthesis.importing.row_import import import_rows
from residency.synthesis.importing.source_row import ReadOptions
from residency.synthesis.importing.splits import SplitPlan


def exchange(number: int, text: str, answer: str = "left", key: str = "ward", turns: int = 1) -> dict[str, Any]:
    asked = [{"role": "user", "content": f"{text}\n{THINK_INSTRUCTION}"}]
    said = [{"role": "assistant", "content": "x"}]
    return {"request_id": f"r{number}", "key": key, "model": "m", "version": "v1", "answer": answer,
            "messages": (asked + said) * (turns - 1) + asked}  # fmt: skip


def rating(number: int, rated: str, key: str = "ward", **more: Any) -> dict[str, Any]:
    return {"request_id": f"r{number}", "key": key, "rating": rated, **more}


def write(folder: Path, what: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in rows]
    (folder / f"{what}-replica.jsonl").write_text("\n".join([*lines, '{"request_id": "cut of']))


def test_what_is_taken_and_what_is_not(tmp_path: Path) -> None:
    day = tmp_path / "feedback" / "2026-05-01"
    write(
        day,
        "exchanges",
        [
            exchange(1, "which side is it?"),
            exchange(2, "which side is that?"),
            exchange(3, "which side are they?"),
            exchange(4, "Dr. Miller asks which side?"),
            exchange(5, "nobody rated this?"),
            exchange(6, "another key rated this?"),
            exchange(7, "and now?", turns=2),
        ],
    )
    ratings = [rating(1, "unsure"), rating(2, "wrong", corrected_answer="right"), rating(3, "wrong")]
    write(day, "ratings", [*ratings, rating(4, "right"), rating(6, "right", key="other"), rating(7, "right")])
    write(tmp_path / "feedback" / "2026-05-02", "ratings", [rating(1, "right")])  # thought about it overnight
    settings = ImportSettings(name="ward", licence="own", plan=SplitPlan.parse("train", 0), family=None)
    outcome = import_rows(
        ROW_FORMATS["feedback"], tmp_path / "feedback", tmp_path / "items", ReadOptions(), settings, lambda: None
    )
    items = {item.question: item.answer for item in read_dataset(tmp_path / "items").items}
    assert items == {"which side is it?": "left", "which side is that?": "right"}
    assert dict(outcome.refused) == {
        "nobody said what the right answer is": 1,
        "it identifies somebody": 1,
        "the chat has more than one turn": 1,
    }


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no day's folder"):
        next(ROW_FORMATS["feedback"].read(tmp_path, ReadOptions()))
