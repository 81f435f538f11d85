"""PubMedQA: the real file whole, and by hand what its importer refuses."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import DataError
from residency.platform.records import Split
from residency.platform.verifiers.self_check import self_check
from residency.synthesis.benchmarks.importing import import_benchmark
from residency.synthesis.benchmarks.pubmed_qa import PUBMED_QA

PUBLISHED = Path(__file__).resolve().parents[5] / "shared" / "data" / "pubmedqa"
real_file = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published PubMedQA files are not in {PUBLISHED}")


def entry(decision: str = "yes", **changes: Any) -> dict[str, Any]:
    return {
        "QUESTION": "Does bed rest help against back pain?",
        "CONTEXTS": ["Bed rest is widely advised.", "Of 80 patients, 40 rested."],
        "LABELS": ["BACKGROUND", "METHODS"],
        "MESHES": ["Bed Rest"],
        "YEAR": None,
        "final_decision": decision,
        "LONG_ANSWER": "Those who rested recovered later.",
    } | changes


def write(folder: Path, entries: dict[str, Any], test: dict[str, str] | None = None) -> Path:
    (folder / "ori_pqal.json").write_text(json.dumps(entries))
    if test is not None:
        (folder / "test_ground_truth.json").write_text(json.dumps(test))
    return folder


@real_file
def test_the_published_file_is_a_thousand_items_that_can_be_judged(tmp_path: Path) -> None:
    report = import_benchmark(PUBMED_QA, PUBLISHED, "all", tmp_path / "out")
    assert (report.taken, report.difference, report.refused, report.conflicts) == (1000, 0, {}, 0)
    items = read_dataset(tmp_path / "out").items
    assert Counter(item.answer for item in items) == {"yes": 552, "no": 338, "maybe": 110}
    assert self_check(items) == []
    leaks = [item.id for item in items if item.metadata["explanation"] in item.question]
    assert leaks == []


@real_file
def test_the_test_split_and_the_rest_of_the_published_file_share_no_item(tmp_path: Path) -> None:
    test = import_benchmark(PUBMED_QA, PUBLISHED, "test", tmp_path / "test")
    train = import_benchmark(PUBMED_QA, PUBLISHED / "ori_pqal.json", "train", tmp_path / "train")
    assert (test.taken, test.difference, train.taken, train.difference) == (500, 0, 500, 0)
    held_out, training = (read_dataset(tmp_path / name).items for name in ("test", "train"))
    assert {item.split for item in held_out} == {Split.HELD_OUT}
    assert {item.split for item in training} == {Split.TRAIN}
    assert not {item.content_key for item in held_out} & {item.content_key for item in training}


def test_the_abstract_is_asked_with_its_labels_and_without_its_conclusion(tmp_path: Path) -> None:
    import_benchmark(PUBMED_QA, write(tmp_path, {"101": entry("no")}), "all", tmp_path / "out")
    (item,) = read_dataset(tmp_path / "out").items
    assert item.question == (
        "BACKGROUND: Bed rest is widely advised.\nMETHODS: Of 80 patients, 40 rested.\n\n"
        "Does bed rest help against back pain?"
    )
    assert (item.options, item.answer, item.cluster) == (("yes", "no", "maybe"), "no", "101")


def test_broken_entries_are_refused_with_their_place_and_reason(tmp_path: Path) -> None:
    broken = {
        "1": entry(),
        "2": entry("perhaps"),
        "3": entry(LABELS=["BACKGROUND"]),
        "4": "no entry",
        "5": {key: value for key, value in entry().items() if key != "QUESTION"},
        "6": entry(QUESTION="  "),
    }
    report = import_benchmark(PUBMED_QA, write(tmp_path, broken), "all", tmp_path / "out")
    assert report.taken == 1
    assert sum(report.refused.values()) == 5
    places = {row.where: reason for reason, rows in report.first_refused.items() for row in rows}
    assert places == {
        "ori_pqal.json entry 2 (2)": "field final_decision: Input should be 'yes', 'no' or 'maybe'",
        "ori_pqal.json entry 3 (3)": "no abstract with one label a paragraph",
        "ori_pqal.json entry 4 (4)": "field QUESTION: Field required",
        "ori_pqal.json entry 5 (5)": "field QUESTION: Field required",
        "ori_pqal.json entry 6 (6)": "no question",
    }
    assert "999 fewer than the 1000 published" in report.count_check()


def test_a_test_list_that_disagrees_with_the_entries_costs_its_rows(tmp_path: Path) -> None:
    source = write(tmp_path, {"1": entry("yes"), "2": entry("no"), "9": entry()}, {"1": "yes", "2": "yes", "3": "no"})
    report = import_benchmark(PUBMED_QA, source, "test", tmp_path / "out")
    assert report.taken == 1
    assert report.refused == {
        "the test list gives another answer": 1,
        "in the test list, but not in ori_pqal.json": 1,
    }


def test_what_is_no_pubmed_qa_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ori_pqal.json does not exist"):
        import_benchmark(PUBMED_QA, tmp_path, "all", tmp_path / "out")
    with pytest.raises(DataError, match="test_ground_truth.json does not exist"):
        import_benchmark(PUBMED_QA, write(tmp_path, {"1": entry()}), "test", tmp_path / "out")
    (tmp_path / "ori_pqal.json").write_text("[1]")
    with pytest.raises(DataError, match="holds a list"):
        import_benchmark(PUBMED_QA, tmp_path, "all", tmp_path / "out")
    (tmp_path / "ori_pqal.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        import_benchmark(PUBMED_QA, tmp_path, "all", tmp_path / "out")
    assert not (tmp_path / "out").exists()
