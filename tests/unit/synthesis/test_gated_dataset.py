"""A dataset through gates and comparisons: what is left, what is said about it, and what a person may change."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from residency.platform.dataset_folder import DatasetCard, read_dataset, write_dataset
from residency.platform.errors import DataError
from residency.platform.gates_config import DuplicatesConfig, GatesConfig
from residency.platform.media_store import encode_png, media_hash
from residency.platform.records import AnswerKind, Family, Item, Split
from residency.synthesis.gated_dataset import TeacherWords, gate_dataset, kept_by_rules
from residency.synthesis.gates.image_necessity import SOLVED, Outcomes

pytestmark = pytest.mark.timeout(120)
GATES, DUPLICATES, SILENT = GatesConfig(), DuplicatesConfig(), TeacherWords()
GOOD = '{"alignment": 2, "completeness": 2, "logic": 2, "reason": ""}'
BAD = '{"alignment": 2, "completeness": 2, "logic": 0, "reason": "two answers fit"}'


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    return encode_png(Image.fromarray(pixels).resize((84, 84), Image.Resampling.BICUBIC))


def item(key: str, question: str, number: int | None = None, answer: str = "liver", **changed: Any) -> Item:
    media = () if number is None else (media_hash(picture(number)),)
    fields: dict[str, Any] = {
        "id": key, "content_key": Item.make_content_key(question, (), media), "source": "s", "split": Split.TRAIN,
        "licence": "CC-BY-4.0", "cluster": key, "media": media, "question": question, "answer": answer,
        "answer_kind": AnswerKind.SHORT, "family": Family.MEDICAL_MULTIMODAL,
    }  # fmt: skip
    return Item(**(fields | changed))


def folder(path: Path, items: list[Item], pictures: int = 4) -> Path:
    card = DatasetCard(name=path.name, source="-", licence="CC-BY-4.0", splits="-", skipped={"a torn row": 1})
    return write_dataset(path, items, [picture(number) for number in range(pictures)], card)


@pytest.fixture
def gate(tmp_path: Path) -> Callable[..., tuple[set[str], dict[str, Any]]]:
    """Ids that are left and the summary, of a dataset with one item of each kind, against one benchmark."""
    ours = folder(
        tmp_path / "ours",
        [
            item("sound", "Which organ is enlarged?", 0),
            item("again", "Which organ is the enlarged one?", 0),
            item("unlicensed", "Which organ is bright?", 1, licence="unknown"),
            item("leaked", "Which vessel is dilated?", 2),
            item("named", "Which organ of Mr. John Smith is dark?", 1),
            item("tune", "Which organ is small?", 3, split=Split.TUNE),
            item("held", "Which lobe is dark?", 3, split=Split.HELD_OUT, cluster="tune2"),
        ],
    )  # fmt: skip
    theirs = folder(tmp_path / "board", [item("theirs", "Which vessel is dilated?", 2, split=Split.HELD_OUT)])

    def run(
        gates: GatesConfig | None = GATES,
        duplicates: DuplicatesConfig | None = DUPLICATES,
        words: TeacherWords = SILENT,
    ) -> tuple[set[str], dict[str, Any]]:
        out = tmp_path / "gated"
        summary = gate_dataset(ours, out, tmp_path / "lineage", gates, duplicates, [theirs], words)
        return {each.id for each in read_dataset(out).items}, summary

    return run


def test_what_is_left_and_what_is_said_of_the_rest(
    gate: Callable[..., tuple[set[str], dict[str, Any]]], tmp_path: Path
) -> None:
    left, summary = gate()
    assert left == {"sound", "tune", "held"}
    assert summary["gates"]["refused"] == {"identifying_text: a name": 1, "licence: no licence": 1}
    assert summary["duplicates"]["left_out"] == 2
    assert summary["duplicates"]["pairs"]["duplicate within train"] == 1
    assert summary["contamination"] == {"left_out": 1, "benchmarks": {"board": {"items": 1, "leak": 1}}}
    card = read_dataset(tmp_path / "gated").card
    assert card.counts == {"train": 1, "tune": 1, "held_out": 1}
    assert sum(card.skipped.values()) == 1 + 4
    assert read_dataset(tmp_path / "gated").media.open_image(media_hash(picture(0))).size == (84, 84)
    assert gate()[0] == left, "a second start comes to the same"


def test_a_licence_by_name_and_a_gate_left_out_let_items_in(
    gate: Callable[..., tuple[set[str], dict[str, Any]]],
) -> None:
    left, _ = gate(GatesConfig(licences=("unknown",), rules=("licence", "consistency", "image_sanity")))
    assert left == {"sound", "tune", "held", "unlicensed", "named"}
    left, summary = gate(None, None)
    assert len(left) == 7
    assert summary == {}


def test_a_person_overrules_both_lists(gate: Callable[..., tuple[set[str], dict[str, Any]]], tmp_path: Path) -> None:
    gate()

    def decide(path: Path, column: str, value: str, decision: str) -> str:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            if row[column] == value:
                row |= {"decision": decision, "reviewer": "Dr. K"}
        with (edited := tmp_path / f"edited-{path.name}").open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
        return str(edited)

    named = decide(tmp_path / "lineage" / "gates.csv", "item_id", "named", "keep")
    again = decide(tmp_path / "lineage" / "duplicates" / "review.csv", "second", "leaked", "keep")
    left, summary = gate(GatesConfig(overrules=named), DuplicatesConfig(overrules=again))
    assert left == {"sound", "tune", "held", "named", "leaked"}
    assert summary["gates"]["decided_by_people"] == summary["duplicates"]["decided_by_people"] == 1
    assert summary["contamination"]["left_out"] == 0


def test_the_teachers_words_refuse_and_mark(
    gate: Callable[..., tuple[set[str], dict[str, Any]]], tmp_path: Path
) -> None:
    asked = kept_by_rules(tmp_path / "ours", GATES)
    assert asked == {"sound", "again", "leaked", "tune", "held"}
    ratings = dict.fromkeys(asked, GOOD) | {"leaked": BAD}
    blind = {"sound": Outcomes((True,) * 4, (True,) * 4), "again": Outcomes((True,) * 4, (False,) * 4)}
    left, summary = gate(words=TeacherWords(ratings=ratings, outcomes=blind))
    assert left == {"sound", "tune", "held"}
    assert summary["gates"]["refused"]["rubric: logic is bad"] == 1
    assert summary["gates"]["marked"] == {f"image_necessity: {SOLVED}": 1}
    assert summary["contamination"]["left_out"] == 0, "what the teacher refused is not counted as contamination"
    del ratings["tune"]
    with pytest.raises(DataError, match="split tune"):  # not rated is refused, and a split must not go silently
        gate(words=TeacherWords(ratings=ratings))


def test_a_teacher_needs_work_and_work_a_teacher() -> None:
    with pytest.raises(ValueError, match="need a teacher"):
        GatesConfig(rubric=True)
    with pytest.raises(ValueError, match="luck"):
        GatesConfig.model_validate({"blank_samples": 2, "teacher": {"kind": "vllm", "model": "m"}})
    with pytest.raises(ValueError, match="take `vllm` or `openai`"):
        GatesConfig.model_validate({"rubric": True, "teacher": {"kind": "annotations"}})
