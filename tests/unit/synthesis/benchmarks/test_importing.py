"""The frame of all benchmark importers: what is taken, what is refused and why, and the check of n."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import BadInputError, DataError
from residency.platform.records import AnswerKind, Family, Split
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row, import_benchmark

Rows = list[Row | Refused]


def row(number: int = 1, **changes: object) -> Row:
    plain = {
        "key": f"k{number}",
        "where": f"quiz.json row {number}",
        "question": f"Is it {number}?",
        "answer": "yes",
        "answer_kind": AnswerKind.YES_NO,
    }
    return Row(**(plain | changes))  # type: ignore[arg-type]


def benchmark_of(rows: Rows, published: int | None = 2) -> Benchmark:
    def read(source: Path, variant: str) -> Iterator[Row | Refused]:
        yield from rows

    return Benchmark(
        name="quiz",
        title="Quiz",
        licence="CC0",
        family=Family.MEDICAL_MULTIMODAL,
        published={"test": published, "train": None},
        source="written here",
        read=read,
        note="A quiz.",
    )


def test_n_as_published_and_every_field_arrives(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    rows: Rows = [row(1, images=(picture(7),), metadata={"modality": "CT"}), row(2, patient_id="p")]
    report = import_benchmark(benchmark_of(rows), tmp_path, "test", tmp_path / "out")
    assert (report.taken, report.difference, report.refused) == (2, 0, {})
    assert report.lines() == ["2 rows of quiz (test), as published."]
    assert report.kinds_taken() == "2 yes_no"
    dataset = read_dataset(tmp_path / "out")
    first, second = dataset.items
    assert first.split is Split.HELD_OUT
    assert first.cluster == first.media[0]
    assert first.metadata == {"row": "k1", "modality": "CT"}
    assert dataset.media.open_image(first.media[0]).getpixel((0, 0)) == (7, 100, 50)
    assert (second.cluster, second.patient_id, second.media) == ("k2", "p", ())
    assert dataset.card.note.startswith("2 rows of quiz (test), as published.")
    assert not list(tmp_path.glob("out.*"))


def test_refusals_are_counted_by_reason_with_their_first_rows(tmp_path: Path) -> None:
    rows: Rows = [
        row(1),
        *(Refused(key=str(n), where=f"quiz.json row {n}", reason="no answer", detail=f"cell {n}") for n in range(2, 7)),
        row(7, answer="perhaps"),
        row(8, images=(tmp_path / "absent.png",)),
        row(9, images=(b"no image",)),
        row(10, answer_kind=AnswerKind.CHOICE, options=("CT", "MR"), answer="PET"),
        row(11, question=" "),
    ]
    report = import_benchmark(benchmark_of(rows, published=11), tmp_path, "test", tmp_path / "out")
    assert report.refused == {
        "no answer": 5, "its gold answer cannot be judged": 2, "its image cannot be used": 2, "no question": 1,
    }  # fmt: skip
    assert report.difference == -10
    text = "\n".join(report.lines())
    assert "10 fewer than the 11 published (10 refused)" in text
    assert "refused 5: no answer\n  quiz.json row 2: cell 2\n  quiz.json row 3: cell 3\n  quiz.json row 4" in text
    assert "quiz.json row 5" not in text
    assert "quiz.json row 8: the image" in text
    assert "the image of quiz.json row 9 cannot be decoded" in text
    card = read_dataset(tmp_path / "out").card
    assert card.skipped == report.refused
    assert "10 fewer than the 11 published" in card.note


def test_repeats_conflicts_twins_and_shared_keys_are_told_and_kept(tmp_path: Path) -> None:
    twins = row(5, answer_kind=AnswerKind.CHOICE, options=("CT", "MR", "ct."), answer="CT")
    rows: Rows = [
        row(1),
        row(2, question="Is it 1?"),
        row(3, question="Is it 1?", answer="no"),
        row(1, question="?"),
        twins,
    ]
    report = import_benchmark(benchmark_of(rows, None), tmp_path, "test", tmp_path / "out")
    assert (report.taken, report.repeats, report.conflicts, report.repeated_keys, report.twin_options) == (
        5,
        1,
        1,
        1,
        1,
    )
    assert len(report.lines()) == 5
    assert [item.metadata["row"] for item in read_dataset(tmp_path / "out").items] == ["k1", "k2", "k3", "k1#2", "k5"]


def test_ids_do_not_depend_on_what_else_is_in_the_file(tmp_path: Path) -> None:
    for name, rows in (("whole", [row(1), row(2)]), ("part", [row(2)])):
        import_benchmark(benchmark_of(list(rows)), tmp_path, "test", tmp_path / name)
    assert read_dataset(tmp_path / "whole").items[1] == read_dataset(tmp_path / "part").items[0]


def test_the_train_variant_is_the_train_split(tmp_path: Path) -> None:
    import_benchmark(benchmark_of([row()]), tmp_path, "train", tmp_path / "out")
    assert read_dataset(tmp_path / "out").items[0].split is Split.TRAIN


def test_a_picture_shown_by_many_rows_is_stored_once(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture(3))
    rows: Rows = [row(1, images=(file,)), row(2, images=(file, picture(3))), row(3, images=(picture(4),), answer="?")]
    import_benchmark(benchmark_of(rows), tmp_path, "test", tmp_path / "out")
    assert len(list((tmp_path / "out" / "media").rglob("*.png"))) == 1  # and none of the refused row


def test_no_usable_row_is_an_error_that_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    rows: Rows = [Refused(key="1", where="quiz.json row 1", reason="its gold answer is not published")]
    with pytest.raises(DataError, match="refused 1: its gold answer is not published; quiz.json row 1"):
        import_benchmark(benchmark_of(rows), tmp_path, "test", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_unknown_variant_missing_source_and_taken_folder(tmp_path: Path) -> None:
    quiz = benchmark_of([row()])
    with pytest.raises(BadInputError, match="one of test, train"):
        import_benchmark(quiz, tmp_path, "dev", tmp_path / "out")
    with pytest.raises(DataError, match="nowhere does not exist"):
        import_benchmark(quiz, tmp_path / "nowhere", "test", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        import_benchmark(quiz, tmp_path, "test", tmp_path / "full")
