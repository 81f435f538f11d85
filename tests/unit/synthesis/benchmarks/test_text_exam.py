"""Any exam: CSV and JSON lines in the forms that people keep them in."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import DataError
from residency.platform.verifiers.self_check import self_check
from residency.synthesis.benchmarks.exam import EXAM, right_option
from residency.synthesis.benchmarks.importing import import_benchmark
from residency.synthesis.benchmarks.published_files import UnusableRow

PORTUGUESE = """\ufeffID;Question;A;B;C;D;E;Answer;Specialty;Year;Language
1;Qual é o agente da doença de Chagas?;Trypanosoma cruzi;Leishmania;Plasmódio;Esquistossomo;;A;Infectologia;2024;PT
2;"Sinal de irritação meníngea; qual?";Kernig;Murphy;Rovsing;Giordano;Courvoisier;Kernig;Neurologia;2024;PT
3;Questão anulada;Sim;Não;;;;ANULADA;Clínica;2024;PT
"""


def write_json(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_portuguese_spreadsheet_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "prova.csv").write_text(PORTUGUESE, encoding="utf-8")
    report = import_benchmark(EXAM, tmp_path, "test", tmp_path / "out")
    assert (report.taken, report.published) == (2, None)
    assert report.refused == {"the answer is neither an option's letter nor its text": 1}
    (row,) = next(iter(report.first_refused.values()))
    assert (row.where, row.detail) == ("prova.csv row 3 (line 4)", "'ANULADA'")
    first, second = read_dataset(tmp_path / "out").items
    assert (first.answer, first.options[2], len(first.options)) == ("Trypanosoma cruzi", "Plasmódio", 4)
    assert (second.question, second.answer, len(second.options)) == ("Sinal de irritação meníngea; qual?", "Kernig", 5)
    assert first.metadata == {
        "row": "prova:1", "exam": "prova", "specialty": "Infectologia", "year": "2024", "language": "pt",
    }  # fmt: skip
    assert self_check([first, second]) == []


def test_options_may_be_a_list_an_object_columns_or_text_in_a_cell(tmp_path: Path) -> None:
    wanted = ("Ovary", "Testis")
    source = write_json(
        tmp_path / "exam.jsonl",
        {"Question": "1?", "Options": ["Ovary", "Testis"], "Answer": "b"},
        {"QUESTION": "2?", "options": {"A": "Ovary", "B": "Testis"}, "answer": "(B)"},
        {"question": "3?", "Option A": "Ovary", "option-b": "Testis", "answer": "B)"},
        {"question": "4?", "options": '["Ovary", "Testis"]', "answer": "testis."},
        {"question": "5?", "options": "['Ovary', 'Testis']", "answer": "B. Testis"},
        {"question": "6?", "options": ["A) Ovary", "B) Testis"], "answer": "B) Testis"},
    )
    report = import_benchmark(EXAM, source, "test", tmp_path / "out")
    assert (report.taken, report.refused) == (6, {})
    assert {(item.options, item.answer) for item in read_dataset(tmp_path / "out").items} == {(wanted, "Testis")}


def test_answers_that_could_be_read_two_ways_are_not_guessed() -> None:
    assert right_option("A", ("A", "B", "AB", "O")) == 0
    assert right_option("2", ("1", "2", "3")) == 1
    assert right_option("Ménière", ("menière", "Ménière")) == 1
    for answer, options, reason in (
        ("B", ("O", "A", "B"), "the letter of one option and the text of another"),
        ("A, C", ("x", "y", "z"), "neither an option's letter nor its text"),
        ("E", ("x", "y"), "neither an option's letter nor its text"),
    ):
        with pytest.raises(UnusableRow, match=reason):
            right_option(answer, options)


def test_broken_rows_are_refused_with_their_place_and_reason(tmp_path: Path) -> None:
    (tmp_path / "exam.csv").write_text(
        "question,option_a,option_b,option_c,answer,image\n"
        '"Two\nlines?",x,y,,A,\n'
        "two few,x\n"
        ",x,y,z,A,\n"
        "q?,x,,z,A,\n"
        "q?,x,,,A,\n"
        "q?,x,y,z,,\n"
        "q?,x,y,X.,A,\n"
        "q?,x,y,z,B,../secret.png\n"
        "q?,x,y,z,B,absent.png\n"
        "\n"
        "q?,,,,B,\n"
    )
    report = import_benchmark(EXAM, tmp_path / "exam.csv", "test", tmp_path / "out")
    assert (report.taken, report.twin_options) == (2, 1)
    places = {row.where.removeprefix("exam.csv row "): r for r, rows in report.first_refused.items() for row in rows}
    assert places == {
        "2 (line 4)": "not one cell a column",
        "3 (line 5)": "no question",
        "4 (line 6)": "option B is empty",
        "5 (line 7)": "fewer than two options",
        "6 (line 8)": "no answer",
        "8 (line 10)": "the image path leads out of the exam's folder",
        "9 (line 11)": "its image cannot be used",
        "10 (line 13)": "no options",
    }


def test_a_picture_beside_the_exam_goes_into_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    Image.new("RGB", (4, 3), (200, 10, 10)).save(tmp_path / "figures" / "1.png")
    row = {"question": "What colour?", "options": ["red", "blue"], "answer": "A", "image": "figures/1.png"}
    import_benchmark(EXAM, write_json(tmp_path / "exam.jsonl", row), "test", tmp_path / "out")
    dataset = read_dataset(tmp_path / "out")
    assert len(dataset.items[0].media) == 1
    assert dataset.items[0].cluster == dataset.items[0].media[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"pergunta,a,b,resposta\nq?,x,y,A\n", "has the header 'pergunta,a,b,resposta'.*rename the columns"),
        (b"question,answer\nq?,A\n", "has the header 'question,answer'"),
        (b"question,A,option_a,answer\nq?,x,y,A\n", "has a column twice"),
        ("question,a,b,answer\nQuestão,sim,não,A\n".encode("latin-1"), "is not UTF-8 text"),
        (b'question,a,b,answer\n"never closed,x,y,A\nq?,x,y,A\n', "is not CSV"),
        (b"", "has the header ''"),
    ],
)
def test_what_is_no_exam_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "exam.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_benchmark(EXAM, tmp_path / "exam.csv", "test", tmp_path / "out")


def test_a_folder_must_hold_one_exam(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gives 0 exam files"):
        import_benchmark(EXAM, tmp_path, "test", tmp_path / "out")
    (tmp_path / "a.csv").write_text("question,a,b,answer\n")
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(DataError, match="gives 2 exam files"):
        import_benchmark(EXAM, tmp_path, "test", tmp_path / "out")
