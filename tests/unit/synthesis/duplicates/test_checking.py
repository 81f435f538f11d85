"""A dataset against itself and a benchmark, from items to the report, and people who overrule it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from residency.platform.errors import DataError
from residency.platform.gates_config import DuplicatesConfig
from residency.platform.media_store import MediaStore
from residency.platform.records import AnswerKind, Item, Split
from residency.synthesis.duplicates.checking import Compared, check_duplicates
from residency.synthesis.duplicates.key_buckets import KeyBuckets, matches
from residency.synthesis.duplicates.matching import FEW
from residency.synthesis.duplicates.overrules import read_overrules
from residency.synthesis.duplicates.report import DuplicateReport

pytestmark = pytest.mark.timeout(120)
USUAL = DuplicatesConfig()
Make = Callable[..., Item]
Draw = Callable[[int], Image.Image]


def pairs_of(out: Path) -> dict[tuple[str, str], tuple[str, list[str]]]:
    rows = pq.read_table(out / "pairs.parquet").to_pylist()
    return {(row["first"], row["second"]): (row["verdict"], row["agreements"]) for row in rows}


@pytest.fixture
def check(store: MediaStore, tmp_path: Path) -> Callable[..., DuplicateReport]:
    def run(
        items: list[Item],
        benchmark: list[Item] | None = None,
        reviewed: Path | None = None,
        config: DuplicatesConfig = USUAL,
    ) -> DuplicateReport:
        benchmarks = [Compared("slake", benchmark, store)] if benchmark else []
        overrules = read_overrules(reviewed) if reviewed else None
        return check_duplicates(Compared("ours", items, store), benchmarks, tmp_path / "out", config, overrules)

    return run


def test_every_verdict_with_its_evidence(
    check: Callable[..., DuplicateReport], make_item: Make, drawn: Draw, store: MediaStore, tmp_path: Path
) -> None:
    liver, heart = store.put(drawn(1)), store.put(drawn(2))
    liver_copy = store.put(drawn(1).resize((120, 100)).crop((3, 2, 120, 100)))
    theirs = make_item("Is the liver enlarged?", "yes", liver, patient_id="p1", split=Split.HELD_OUT)
    items = [
        exact := make_item("Is the heart enlarged?", "no", heart),
        again := make_item("Is the heart enlarged?", "no", heart),
        leak := make_item("Does the liver appear enlarged?", "yes", liver_copy),
        conflict := make_item("Is the heart enlarged?", "yes", heart),
        shared := make_item("Is the spleen enlarged?", "yes", liver_copy),
        patient := make_item("Is the colon dilated?", "no", store.put(drawn(3)), patient_id="p1"),
        make_item("Is the pancreas normal?", "no", heart),
    ]
    report = check(items, [theirs])
    assert pairs_of(tmp_path / "out") == {
        (exact.id, again.id): ("duplicate", ["content", "images", "question", "answer"]),
        (theirs.id, leak.id): ("leak", ["similar_images", "similar_question", "answer"]),
        (exact.id, conflict.id): ("conflict", ["content", "images", "question"]),
        (theirs.id, shared.id): ("same_image_other_question", ["similar_images", "answer"]),
        (theirs.id, patient.id): ("patient_overlap", ["patient"]),
    }
    assert report.dropped == {again.id, leak.id, exact.id, conflict.id, patient.id}
    assert report.document["pictures"] == {"distinct": 4, "after_copies": 3, "near_pairs": 1, "unreadable": 0}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["left_out"] == 5
    assert "| leak | 1 |" in (tmp_path / "out" / "report.md").read_text()


def test_splits_of_one_dataset_leak_too_and_the_stricter_one_stays(
    check: Callable[..., DuplicateReport], make_item: Make, drawn: Draw, store: MediaStore
) -> None:
    key = store.put(drawn(1))
    train = make_item("Is there a mass?", "yes", key)
    tune = make_item("Is a mass seen?", "yes", key, split=Split.TUNE)
    assert check([train, tune]).dropped == {train.id}


def test_text_questions_are_found_among_thousands(check: Callable[..., DuplicateReport], make_item: Make) -> None:
    rng = np.random.default_rng(0)
    words = [
        f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("abu", "ilo", "emi", "oka") for c in ("tan", "dril", "sone")
    ]
    chosen = [" ".join(rng.choice(words, 6, replace=False)) for _ in range(20 * FEW)]
    items = [make_item(f"Does {text} lower the pressure?", "yes") for text in dict.fromkeys(chosen)]
    again = [make_item(f"the pressure: does {chosen[n]} lower it ?", "yes") for n in (5, 500)]
    report = check(items + again)
    assert {item.id for item in again} <= report.dropped
    assert not {item.id for item in items} & report.dropped


def test_open_answers_in_other_words_are_no_conflict(
    check: Callable[..., DuplicateReport], make_item: Make, drawn: Draw, store: MediaStore, tmp_path: Path
) -> None:
    key = store.put(drawn(1))
    one, other = (
        make_item("Describe the picture.", text, key, answer_kind=AnswerKind.OPEN)
        for text in ("A round mass in the liver.", "The liver holds a mass that is round.")
    )
    check([one, other])
    assert pairs_of(tmp_path / "out")[one.id, other.id][0] == "duplicate"


def test_other_options_are_another_choice(
    check: Callable[..., DuplicateReport], make_item: Make, drawn: Draw, store: MediaStore
) -> None:
    key, kind = store.put(drawn(1)), AnswerKind.CHOICE
    one = make_item("Which is true?", "liver", key, options=("liver", "lung"), answer_kind=kind)
    other = make_item("Which is true?", "colon", key, options=("colon", "bone"), answer_kind=kind)
    assert check([one, other]).dropped == set()


def test_a_broken_picture_is_a_copy_of_nothing(
    check: Callable[..., DuplicateReport], make_item: Make, drawn: Draw, store: MediaStore
) -> None:
    broken = store.put_png(b"no picture at all")
    items = [make_item("Is it a mass?", "yes", broken), make_item("Is it a mass?", "yes", store.put(drawn(1)))]
    report = check(items)
    assert report.dropped == set()
    assert report.document["pictures"]["unreadable"] == 1


def test_an_empty_dataset_has_an_empty_report(check: Callable[..., DuplicateReport]) -> None:
    assert check([]).document["left_out"] == 0


def test_a_person_overrules_and_it_lasts(
    check: Callable[..., DuplicateReport], make_item: Make, drawn: Draw, store: MediaStore, tmp_path: Path
) -> None:
    key = store.put(drawn(1))
    items = [make_item("=Is it a mass?", "yes", key), make_item("Is it a mass?", "yes", key)]
    assert check(items).dropped == {items[1].id}
    with (tmp_path / "out" / "review.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["first_question"] == "'=Is it a mass?"  # a spreadsheet must not run it
    edited = tmp_path / "edited.csv"
    with edited.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row | {"decision": "keep", "reviewer": "Dr. K"})
    report = check(items, reviewed=edited)
    assert report.dropped == set()
    assert report.document["decided_by_people"] == 1
    assert check(items, reviewed=tmp_path / "out" / "review.csv").dropped == set()
    lines = tmp_path / "edited.jsonl"
    lines.write_text(json.dumps({"pair_id": row["pair_id"], "decision": "drop_both", "reviewer": "K"}) + "\n")
    assert check(items, reviewed=lines).dropped == {item.id for item in items}
    lines.write_text(json.dumps({"pair_id": "gone", "decision": "keep", "reviewer": "K"}) + "\n")
    assert check(items, reviewed=lines).document["overrules_without_a_pair"] == 1


@pytest.mark.parametrize(
    "text",
    ['{"pair_id": "a", "decision": "perhaps", "reviewer": "K"}', '{"pair_id": "a", "decision": "keep"}', "[1]", "{"],
)
def test_a_wrong_review_names_its_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    path.write_text("\n" + text)
    with pytest.raises(DataError, match="line 2"):
        read_overrules(path)


def test_the_recipe_decides_what_is_one_picture_and_whether_repeats_stay(
    check: Callable[..., DuplicateReport], make_item: Make, drawn: Draw, store: MediaStore
) -> None:
    liver, again = store.put(drawn(1)), store.put(drawn(1).resize((120, 100)))
    train = make_item("Is it a mass?", "yes", liver)
    items = [train, make_item("Is it a mass?", "yes", again), make_item("Is it a mass?", "yes", liver)]
    held_out = make_item("Is a mass seen?", "yes", again, split=Split.HELD_OUT)
    assert check(items).dropped == {items[1].id, items[2].id}
    assert check(items, config=DuplicatesConfig(hash_distance=None)).dropped == {items[2].id}
    lax = DuplicatesConfig(within_split=False)
    assert check(items, config=lax).dropped == set()
    assert check([*items, held_out], config=lax).dropped == {item.id for item in items}, "a leak is no mere repeat"
    assert check(items, [held_out]).document["left_out_for_benchmarks"] == 3


def test_the_share_of_words_that_must_agree_is_the_recipes(
    check: Callable[..., DuplicateReport], make_item: Make, drawn: Draw, store: MediaStore
) -> None:
    key = store.put(drawn(1))
    items = [make_item(f"Where lies the {words} nodule?", "lung", key) for words in ("round", "round calcified")]
    assert check(items).dropped == {items[1].id}
    assert check(items, config=DuplicatesConfig(question_similarity=0.9)).dropped == set()


def test_the_join_on_disk_is_the_join_in_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 300, size=2000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    rows = np.arange(2000, dtype=np.uint32)
    joined = KeyBuckets(tmp_path, "t", buckets=5)
    for at in range(0, 2000, 300):
        joined.add(keys[at : at + 300], rows[at : at + 300])
    found = set()
    for runs in joined.runs():
        for first, second in runs.pairs(at_most=1000):
            assert (first < second).all()
            found |= set(zip(first.tolist(), second.tolist(), strict=True))
    i, j = np.nonzero(np.triu(keys[:, None] == keys[None, :], k=1))
    assert found == set(zip(i.tolist(), j.tolist(), strict=True))
    assert not list(tmp_path.glob("*.bin"))
    ordered = np.sort(keys)
    pairs = [pair for a, b in matches(keys, ordered, piece=500) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    assert len(pairs) == int((keys[:, None] == ordered[None, :]).sum())
    assert all(keys[a] == ordered[b] for a, b in pairs)
