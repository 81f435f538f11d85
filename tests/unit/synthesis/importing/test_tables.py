"""Tables by a column map, and pictures with captions."""

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from residency.platform.errors import BadInputError, DataError
from residency.platform.records import AnswerKind
from residency.synthesis.importing.column_map import parse_map
from residency.synthesis.importing.source_row import ReadOptions
from residency.synthesis.importing.table import FIELDS, TABLE


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


ROWS = [
    {"Frage": "Which organ?", "Antwort": "B", "wahl": ["liver", "lung"], "bild": png(1), "fall": "p1"},
    {"Frage": "Which side?", "Antwort": "left", "wahl": ["left", "right", "both"], "bild": png(2), "fall": "p2"},
]
COLUMNS = "question=Frage,answer=Antwort,options=wahl,image=bild,patient=fall"


def test_parquet_with_images_and_lists(tmp_path: Path, importing: Any) -> None:
    pl.DataFrame(ROWS).write_parquet(tmp_path / "rows.parquet")
    _, dataset = importing("table", tmp_path / "rows.parquet", COLUMNS)
    first, second = dataset.items
    assert (first.answer, first.options, first.answer_kind) == ("lung", ("liver", "lung"), AnswerKind.CHOICE)
    assert (second.answer, second.patient_id, second.cluster) == ("left", "p2", "p2")
    assert dataset.media.open_image(second.media[0]).getpixel((0, 0)) == (2, 0, 0)


@pytest.mark.parametrize(
    "written", ["liver|lung", "liver; lung", "liver\nlung", '["liver", "lung"]', "['liver', 'lung']"]
)
def test_options_as_text(written: str, tmp_path: Path, importing: Any) -> None:
    pl.DataFrame({"question": ["Which?"], "answer": ["Lung"], "choices": [written]}).write_csv(tmp_path / "rows.csv")
    _, dataset = importing("table", tmp_path / "rows.csv")
    assert (dataset.items[0].options, dataset.items[0].answer) == (("liver", "lung"), "lung")


def test_options_in_columns_of_their_own(tmp_path: Path, importing: Any) -> None:
    row = {"question": "Which?", "answer": "C", "opa": "liver", "opb": "lung", "opc": "heart", "opd": ""}
    pl.DataFrame([row]).write_csv(tmp_path / "a.csv")
    _, dataset = importing("table", tmp_path / "a.csv", "options=opa+opb+opc+opd")
    assert (dataset.items[0].options, dataset.items[0].answer) == (("liver", "lung", "heart"), "heart")
    pl.DataFrame([{"question": "Which?", "answer": "B", "A": "liver", "B": "lung"}]).write_csv(tmp_path / "b.csv")
    _, dataset = importing("table", tmp_path / "b.csv")
    assert dataset.items[0].answer == "lung"


def test_a_misspelt_column_and_field_name_the_nearest(tmp_path: Path, jsonl: Any, importing: Any) -> None:
    for source in (tmp_path / "rows.csv", jsonl([{"question": "?", "answer_text": "yes"}])):
        if source.suffix == ".csv":
            source.write_text("question,answer_text\nIs it?,yes\n")
        with pytest.raises(DataError, match=r"no column 'anwser_text'.*did you mean 'answer_text'"):
            importing("table", source, "answer=anwser_text")
    with pytest.raises(BadInputError, match="did you mean 'question'"):
        parse_map(["qestion=a"], FIELDS)
    for text in ("question", "question=", "question=a,question=b"):
        with pytest.raises(BadInputError):
            parse_map([text], FIELDS)
    with pytest.raises(BadInputError, match="--window for `table`"):
        TABLE.check_options(ReadOptions(window=(1, 2)))


def test_what_a_row_says_of_itself_is_kept_and_bad_answers_are_refused(jsonl: Any, importing: Any) -> None:
    rows = [
        {"q": "How much?", "a": "5 mg", "k": "number", "l": "CC BY 4.0", "m": "CT", "s": "validation", "i": "x1"},
        {"q": "Is it?", "a": "maybe", "k": "yes_no", "i": "x2"},
        {"q": "Is it?", "a": "yes", "k": "shrug", "i": "x3"},
        {"q": "Is it?", "a": "yes", "s": "elsewhere", "i": "x4"},
        {"q": "Why?", "a": "because", "i": "x1", "s": "validation"},
    ]
    columns = "question=q,answer=a,kind=k,licence=l,modality=m,split=s,id=i"
    outcome, dataset = importing("table", jsonl(rows), columns)
    (item,) = dataset.items
    assert (item.answer_kind, item.licence, item.split) == (AnswerKind.NUMBER, "CC BY 4.0", "tune")
    assert item.metadata == {"row": "x1", "modality": "CT"}
    assert set(outcome.refused) == {
        "its gold answer cannot be judged", "its kind of answer is not known", "its split has no known name",
        "an earlier row has its key",
    }  # fmt: skip
    assert sum(outcome.refused.values()) + outcome.taken == outcome.rows == 5


def test_captions_are_open_answers_and_a_missing_picture_is_refused(tmp_path: Path, importing: Any) -> None:
    Image.new("L", (4, 4), 9).save(tmp_path / "one.png")
    table = "file_name,caption\none.png,An axial slice of the chest without contrast.\ntwo.png,Nothing.\n"
    (tmp_path / "captions.csv").write_text(table)
    outcome, dataset = importing("captions", tmp_path, question="What do you see?")
    (item,) = dataset.items
    assert (item.question, item.answer_kind) == ("What do you see?", AnswerKind.OPEN)
    assert item.answer.startswith("An axial slice")
    assert dict(outcome.refused) == {"its image file is missing": 1}


def test_nothing_is_left_behind_where_no_row_can_be_used(tmp_path: Path, jsonl: Any, importing: Any) -> None:
    source = jsonl([{"question": "", "answer": json.dumps("yes")}])
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match="refused 1: no question"):
        importing("table", source)
    assert set(tmp_path.iterdir()) == before
