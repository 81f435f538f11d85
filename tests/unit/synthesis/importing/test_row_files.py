"""Files of rows are read piece by piece, and a broken place costs what it must and no more."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.platform.errors import DataError
from residency.synthesis.benchmarks.importing import Refused
from residency.synthesis.benchmarks.published_files import Record
from residency.synthesis.importing import row_files
from residency.synthesis.importing.row_files import column_names, json_array, read_rows, table_rows

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(rows=st.lists(VALUES, max_size=6), piece=st.integers(1, 7), indent=st.sampled_from([None, 2]))
def test_a_json_list_comes_out_whole_however_the_pieces_fall(
    rows: list[object], piece: int, indent: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("json") / "rows.json"
    path.write_text(json.dumps(rows, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_files, "CHUNK", piece)
        found = list(json_array(path))
    assert len(found) == len(rows)
    for row, seen in zip(rows, found, strict=True):
        assert seen.fields == row if isinstance(seen, Record) else not isinstance(row, dict)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1}', "no JSON list"),
        ('[{"a": 1}, {"a": 2', "not JSON at row 2"),
        ('[{"a": 1} {"a": 2}]', "breaks off after row 1"),
        ("", "no JSON list"),
    ],
)
def test_a_broken_list_names_the_row(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        list(json_array(path))


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_cells_may_hold_line_breaks_and_a_short_row_is_refused(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f'\ufeffq{mark} a \n"two\nlines"{mark}yes\n\nalone\n', encoding="utf-8")
    first, second = table_rows(path)
    assert isinstance(first, Record)
    assert first.fields == {"q": "two\nlines", "a": "yes"}
    assert isinstance(second, Refused)
    assert second.reason == "not one cell a column"
    assert column_names(path) == ["q", "a"]


def test_rows_of_several_files_are_numbered_on_and_a_mixed_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"a": 3}\n')
    (tmp_path / "a.jsonl").write_text('{"a": 1}\nnot json\n')
    rows = list(read_rows(tmp_path))
    assert [row.number if isinstance(row, Record) else row.key for row in rows] == [1, "2", 3]
    (tmp_path / "c.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="no one set of rows"):
        list(read_rows(tmp_path))
    with pytest.raises(DataError, match="of no known kind"):
        list(read_rows(Path(__file__)))
