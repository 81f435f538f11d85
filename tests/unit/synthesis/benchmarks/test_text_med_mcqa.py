"""MedMCQA in both published forms: JSON lines counting from 1, Parquet counting from 0, and never a guess which."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import DataError
from residency.platform.verifiers.self_check import self_check
from residency.synthesis.benchmarks.importing import import_benchmark
from residency.synthesis.benchmarks.med_mcqa import MED_MCQA

CLASS = {"info": {"features": {"cop": {"names": ["a", "b", "c", "d"], "_type": "ClassLabel"}}}}


def question(number: int, cop: int | None, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"id-{number}",
        "question": f"Question {number}?",
        "opa": "Femur",
        "opb": "Tibia",
        "opc": "Ulna",
        "opd": "Radius",
        "cop": cop,
        "choice_type": "single",
        "exp": "Ans. see Gray",
        "subject_name": "Anatomy",
        "topic_name": None,
    } | changes


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]], described: bool = True) -> Path:
    path.parent.mkdir(exist_ok=True)
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(CLASS)} if described else {}), path)
    return path


def answers(folder: Path) -> list[str]:
    return [item.answer for item in read_dataset(folder).items]


def test_lines_count_from_one_and_parquet_from_zero(tmp_path: Path) -> None:
    write_lines(tmp_path / "dev.json", [question(n, n) for n in (1, 2, 3, 4)])
    report = import_benchmark(MED_MCQA, tmp_path / "dev.json", "dev", tmp_path / "lines")
    assert (report.taken, report.published, report.difference) == (4, 4183, 4 - 4183)
    write_parquet(tmp_path / "data/validation-0.parquet", [question(n, n - 1) for n in (1, 2, 3, 4)])
    import_benchmark(MED_MCQA, tmp_path / "data/validation-0.parquet", "dev", tmp_path / "parquet")
    assert answers(tmp_path / "lines") == answers(tmp_path / "parquet") == ["Femur", "Tibia", "Ulna", "Radius"]
    items = read_dataset(tmp_path / "lines").items
    assert self_check(items) == []
    assert {item.metadata["specialty"] for item in items} == {"Anatomy"}


@pytest.mark.parametrize(("cops", "first"), [((0, 1, 3), "Femur"), ((4, 1, 3), "Radius")])
def test_the_values_settle_it_whatever_the_container(tmp_path: Path, cops: tuple[int, ...], first: str) -> None:
    rows = [question(n, cop) for n, cop in enumerate(cops)]
    import_benchmark(MED_MCQA, write_lines(tmp_path / "dev.json", rows), "dev", tmp_path / "lines")
    source = write_parquet(tmp_path / "validation-0.parquet", rows, described=False)
    import_benchmark(MED_MCQA, source, "dev", tmp_path / "parquet")
    assert answers(tmp_path / "lines")[0] == answers(tmp_path / "parquet")[0] == first


def test_class_names_settle_what_the_values_leave_open(tmp_path: Path) -> None:
    rows = [question(n, n) for n in (1, 2, 3)]
    import_benchmark(MED_MCQA, write_parquet(tmp_path / "validation-0.parquet", rows), "dev", tmp_path / "out")
    assert answers(tmp_path / "out") == ["Tibia", "Ulna", "Radius"]


@pytest.mark.parametrize(
    ("cops", "message"), [((1, 2, 3), "may count from 0 or from 1"), ((0, 2, 4), "a cop of 0 and one of 4")]
)
def test_a_file_that_cannot_be_told_apart_is_refused_whole(tmp_path: Path, cops: tuple[int, ...], message: str) -> None:
    rows = [question(n, cop) for n, cop in enumerate(cops)]
    with pytest.raises(DataError, match=message):
        import_benchmark(MED_MCQA, write_lines(tmp_path / "dev.json", rows), "dev", tmp_path / "out")
    source = write_parquet(tmp_path / "validation-0.parquet", rows, described=False)
    with pytest.raises(DataError, match=message):
        import_benchmark(MED_MCQA, source, "dev", tmp_path / "out")


def test_broken_rows_are_refused_with_their_place_and_reason(tmp_path: Path) -> None:
    rows = [
        question(1, 4),
        question(2, 5),
        question(3, None),
        question(4, 1, opb="femur."),
        question(5, 1, opc=None),
        question(1, 2),
        question(7, 1, question=None),
        question(8, 1) | {"cop": "b"},
    ]
    report = import_benchmark(MED_MCQA, write_lines(tmp_path / "dev.json", rows), "dev", tmp_path / "out")
    assert (report.taken, report.twin_options, report.repeated_keys) == (3, 1, 1)
    places = {row.where.removeprefix("dev.json line "): r for r, rows in report.first_refused.items() for row in rows}
    assert places == {
        "2": "cop names no option",
        "3": "no gold answer (the test split keeps them back)",
        "5": "option C is empty",
        "7": "field question: Input should be a valid string",
        "8": "field cop: Input should be a valid integer, unable to parse string as an integer",
    }


@pytest.mark.parametrize("gold", [-1, None])
def test_the_test_split_has_no_gold_and_says_so(tmp_path: Path, gold: int | None) -> None:
    write_parquet(tmp_path / "test-0.parquet", [question(1, gold), question(2, gold)])
    with pytest.raises(DataError, match="refused 2: no gold answer"):
        import_benchmark(MED_MCQA, tmp_path, "test", tmp_path / "out")


def test_what_is_no_med_mcqa_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "dev-0.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="dev-0.parquet cannot be read as Parquet"):
        import_benchmark(MED_MCQA, tmp_path / "dev-0.parquet", "dev", tmp_path / "out")
    pq.write_table(pa.table({"prompt": ["a"]}), tmp_path / "dev-0.parquet")
    with pytest.raises(DataError, match="has no id, question, opa"):
        import_benchmark(MED_MCQA, tmp_path / "dev-0.parquet", "dev", tmp_path / "out")
