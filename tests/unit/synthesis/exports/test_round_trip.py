"""What is exported and imported again is what it was, for all that the format can hold."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from residency.platform.dataset_folder import read_dataset
from residency.platform.records import AnswerKind, Item, Split
from residency.synthesis.exports.exporting import export

FORMS = [("openai", False), ("openai", True), ("sharegpt", False)]
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
ANSWERS = {
    AnswerKind.YES_NO: st.sampled_from(["yes", "no"]),
    AnswerKind.NUMBER: st.integers(1, 99).map(str),
    AnswerKind.SHORT: st.sampled_from(["left lung", "pneumonia"]),
    AnswerKind.OPEN: st.sampled_from(["a large mass in the left lower lobe of the lung"]),
    AnswerKind.BOX: st.just("[[0.1, 0.2, 0.5, 0.6]]"),
    AnswerKind.CHOICE: st.just("liver"),
}


@st.composite
def drawn_items(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(sorted(ANSWERS)))
        shows = draw(st.lists(st.integers(0, 2), max_size=2))
        inside = draw(st.booleans()) and len(shows) > 1
        question = f"{'see <image> beside <image>: ' if inside else ''}{draw(WORDS)} what {number}?"
        made.append(
            {
                "shows": shows,
                "question": question,
                "options": ("liver", "lung, or heart") if kind is AnswerKind.CHOICE else (),
                "answer": draw(ANSWERS[kind]),
                "answer_kind": kind,
                "patient_id": draw(st.none() | WORDS),
                "metadata": draw(st.dictionaries(st.sampled_from(["modality", "row", "reasoning"]), WORDS, max_size=2)),
            }
        )
    return made


Write = Callable[[Sequence[Item]], Path]
Again = Callable[[str, Path, Path], Any]


@pytest.mark.parametrize(("name", "inline"), FORMS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=drawn_items())
def test_every_item_comes_back(
    name: str,
    inline: bool,
    drawn: list[dict[str, Any]],
    dataset: Write,
    make_item: Callable[..., Item],
    import_again: Again,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = [make_item(number, **fields) for number, fields in enumerate(drawn)]
    source, place = dataset(made), tmp_path_factory.mktemp("again")
    export(source, name, place / "exported", inline)
    outcome = import_again(name, place / "exported", place / "back")
    assert not outcome.refused
    assert read_dataset(place / "back").items == tuple(made)


@pytest.mark.parametrize(("name", "inline"), FORMS)
def test_without_the_column_beside_question_answer_and_images_come_back(
    name: str, inline: bool, dataset: Write, make_item: Callable[..., Item], import_again: Again, tmp_path: Path
) -> None:
    known = make_item(1, shows=[2, 0], answer="left lung", answer_kind=AnswerKind.SHORT)
    export(dataset([known]), name, tmp_path / "exported", inline)
    path = tmp_path / "exported/train.jsonl"
    row = json.loads(path.read_text())
    del row["residency"]
    path.write_text(json.dumps(row))
    import_again(name, path, tmp_path / "back")
    (back,) = read_dataset(tmp_path / "back").items
    for field in ("question", "answer", "answer_kind", "media", "family"):
        assert getattr(back, field) == getattr(known, field)
    assert back.source == "again"


def test_a_row_that_somebody_edited_is_another_item(
    dataset: Write, make_item: Callable[..., Item], import_again: Again, tmp_path: Path
) -> None:
    known = [make_item(1), make_item(2, split=Split.HELD_OUT)]
    export(dataset(known), "sharegpt", tmp_path / "exported")
    path = tmp_path / "exported/train.jsonl"
    path.write_text(path.read_text().replace('"value": "7"', '"value": "8"'))
    import_again("sharegpt", tmp_path / "exported", tmp_path / "back")
    untouched, edited = read_dataset(tmp_path / "back").items
    assert untouched == known[1]
    assert (edited.answer, edited.source, edited.id == known[0].id) == ("8", "again", False)
    assert edited.question == known[0].question
