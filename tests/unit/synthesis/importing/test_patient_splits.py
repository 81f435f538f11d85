"""No patient, study or image on both sides of a split, however the split is asked for."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from residency.platform.errors import BadInputError
from residency.platform.records import Split
from residency.synthesis.importing.splits import SplitPlan, split_by_patient

SHARES = {Split.TRAIN: 0.7, Split.TUNE: 0.1, Split.HELD_OUT: 0.2}


def test_shares_are_met_and_the_draw_is_the_same_each_time() -> None:
    patients = [f"p{number}" for number in range(4000)]
    drawn = [split_by_patient(patient, SHARES, seed=3) for patient in patients]
    assert drawn == [split_by_patient(patient, SHARES, seed=3) for patient in patients]
    for split, share in SHARES.items():  # 5 standard deviations
        assert abs(drawn.count(split) / 4000 - share) < 5 * (share * (1 - share) / 4000) ** 0.5
    assert drawn != [split_by_patient(patient, SHARES, seed=4) for patient in patients]


@given(st.text(), st.sampled_from(list(Split)))
def test_one_split_takes_all(patient: str, split: Split) -> None:
    assert split_by_patient(patient, {split: 1.0}) is split


@pytest.mark.parametrize("text", ["", "nowhere", "train=0.5", "train=0.5,tune=0.6", "train=x", "train=0.5,train=0.5"])
def test_a_plan_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="--split"):
        SplitPlan.parse(text, 0)


def test_rows_of_a_patient_stay_together(jsonl: Any, importing: Any) -> None:
    rows = [{"question": f"Is it {i}?", "answer": "yes", "patient_id": f"p{i % 20}"} for i in range(200)]
    _, dataset = importing("table", jsonl(rows), split="train=0.5,held_out=0.5")
    splits = defaultdict(set)
    for item in dataset.items:
        splits[item.patient_id].add(item.split)
    assert len(splits) == 20
    assert all(len(of_patient) == 1 for of_patient in splits.values())
    assert len({item.split for item in dataset.items}) == 2


def test_a_split_column_that_cuts_through_a_patient_or_an_image_is_not_followed(
    tmp_path: Path, jsonl: Any, importing: Any
) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (3, 3), name[0] == "a" and "white" or "black").save(tmp_path / name)
    rows = [
        {"question": "One?", "answer": "yes", "patient": "p1", "image": "a.png", "s": "train"},
        {"question": "Two?", "answer": "yes", "patient": "p1", "s": "test"},
        {"question": "Three?", "answer": "yes", "patient": "p2", "image": "a.png", "s": "test"},
        {"question": "Four?", "answer": "yes", "patient": "p3", "image": ["b.png", "a.png"], "s": "test"},
        {"question": "Five?", "answer": "yes", "patient": "p4", "image": "b.png", "s": "test"},
    ]
    outcome, dataset = importing("table", jsonl(rows), "split=s")
    assert [item.question for item in dataset.items] == ["One?", "Five?"]
    assert outcome.refused["its cluster lies in another split"] == 1
    assert outcome.refused["its image lies in another split"] == 2
    assert len(list(dataset.media.root.rglob("*.png"))) == 2


def test_turns_and_images_without_patients_stay_together(jsonl: Any, importing: Any) -> None:
    chat = [{"from": role, "value": text} for role, text in (("human", "A?"), ("gpt", "yes")) * 4]
    _, dataset = importing("sharegpt", jsonl([{"conversations": chat}] * 30), split="train=0.5,held_out=0.5")
    assert len(dataset.items) >= 4
    first_words = {item.metadata["row"].split(":")[0]: item.split for item in dataset.items}
    assert all(first_words[item.metadata["row"].split(":")[0]] == item.split for item in dataset.items)
