"""MedQA from hand-written lines in the published form."""

import json
from pathlib import Path
from typing import Any

import pytest

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import DataError
from residency.platform.records import Split
from residency.platform.verifiers.self_check import self_check
from residency.synthesis.benchmarks.importing import import_benchmark
from residency.synthesis.benchmarks.med_qa import MED_QA

FOUR = {"A": "Aspirin", "B": "Warfarin", "C": "Heparin", "D": "Vitamin K"}


def line(question: str, letter: str = "D", **changes: Any) -> dict[str, Any]:
    row = {"question": question, "answer": FOUR[letter], "options": FOUR, "meta_info": "step1", "answer_idx": letter}
    return row | {"metamap_phrases": ["bleeding"]} | changes


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(text if isinstance(text, str) else json.dumps(text) + "\n" for text in lines))
    return path


def test_lines_become_choices_with_the_option_text_as_answer(tmp_path: Path) -> None:
    five = FOUR | {"E": "Protamine"}
    source = write(
        tmp_path / "phrases_no_exclude_test.jsonl",
        line("A man on warfarin bleeds. What reverses it?"),
        line("What inhibits COX?", "A"),
        line("What reverses heparin?", options=five, answer="Protamine", answer_idx="E", meta_info="step2&3"),
    )
    report = import_benchmark(MED_QA, source, "test", tmp_path / "out")
    assert (report.taken, report.refused, report.difference) == (3, {}, 3 - 1273)
    items = read_dataset(tmp_path / "out").items
    assert [(item.answer, len(item.options), item.metadata["question_type"]) for item in items] == [
        ("Vitamin K", 4, "step1"), ("Aspirin", 4, "step1"), ("Protamine", 5, "step2&3"),
    ]  # fmt: skip
    assert self_check(items) == []


def test_broken_lines_are_refused_with_their_place_and_reason(tmp_path: Path) -> None:
    source = write(
        tmp_path / "test.jsonl",
        line("a?"),
        line("b?", answer_idx="E"),
        "\n",
        line("c?", answer="Heparin"),
        line("d?", options={"A": "x", "C": "y"}, answer="x", answer_idx="A"),
        line("e?", options=FOUR | {"B": " vitamin k."}),
        line("f?", options=FOUR | {"B": ""}),
        '{"question": "cut off',
        "\n[1]\n",
        {"question": "g?", "options": FOUR},
        line("", "A"),
    )
    report = import_benchmark(MED_QA, source, "test", tmp_path / "out")
    assert (report.taken, report.twin_options) == (2, 1)
    places = {row.where.removeprefix("test.jsonl line "): r for r, rows in report.first_refused.items() for row in rows}
    assert places == {
        "2": "answer_idx names no option",
        "4": "answer is not the option that answer_idx names",
        "5": "the options are not lettered A, B, C, …",
        "7": "option B is empty",
        "8": "the line is not JSON",
        "9": "the line is JSON, but no object",
        "10": "field answer: Field required",
        "11": "no question",
    }


def test_the_same_question_keeps_its_id_in_a_part_of_the_file(tmp_path: Path) -> None:
    whole = write(tmp_path / "test.jsonl", line("a?"), line("b?"), line("a?"))
    import_benchmark(MED_QA, whole, "test", tmp_path / "whole")
    import_benchmark(MED_QA, write(tmp_path / "part.jsonl", line("b?")), "test", tmp_path / "part")
    ids = {item.question: item.id for item in read_dataset(tmp_path / "whole").items}
    assert len(read_dataset(tmp_path / "whole").items) == 3
    assert [item.id for item in read_dataset(tmp_path / "part").items] == [ids["b?"]]


def test_a_folder_gives_the_variant_asked_for_and_train_is_for_training(tmp_path: Path) -> None:
    write(tmp_path / "phrases_no_exclude_test.jsonl", line("a?"))
    write(tmp_path / "phrases_no_exclude_train.jsonl", line("b?"), line("c?"))
    report = import_benchmark(MED_QA, tmp_path, "train", tmp_path / "out")
    assert report.taken == 2
    assert {item.split for item in read_dataset(tmp_path / "out").items} == {Split.TRAIN}


@pytest.mark.parametrize(
    ("name", "content", "variant", "message"),
    [
        ("train.jsonl", b'{"question": "a?"}', "test", "has the name of the variant train"),
        ("test.jsonl", b"question,answer\n", "test", "line 1 is not JSON"),
        ("test.jsonl", '{"question": "Ménière?"}'.encode("latin-1"), "test", "is not UTF-8 text"),
        ("test.jsonl", b'{"question": "a?"}\n', "test", "no row of .* can be used.*field options: Field required"),
    ],
)
def test_what_is_no_med_qa_file_is_named(tmp_path: Path, name: str, content: bytes, variant: str, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_benchmark(MED_QA, tmp_path / name, variant, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_none_or_two_files_of_the_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no file of the variant test"):
        import_benchmark(MED_QA, tmp_path, "test", tmp_path / "out")
    write(tmp_path / "phrases_no_exclude_test.jsonl", line("a?"))
    write(tmp_path / "test.jsonl", line("a?"))
    with pytest.raises(DataError, match="several files of the variant test"):
        import_benchmark(MED_QA, tmp_path, "test", tmp_path / "out")
