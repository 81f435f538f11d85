"""Whatever stands in a file: every row is taken or refused, and what is taken can be scored."""

import csv
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.platform.dataset_writer import DatasetWriter
from residency.platform.errors import DataError
from residency.platform.prompts import render_completion
from residency.platform.recipe import RewardConfig
from residency.platform.records import Item, PromptMode
from residency.platform.verifiers.judging import judge
from residency.synthesis.benchmarks.exam import EXAM
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row, Tally, has_twin_option, take
from residency.synthesis.benchmarks.med_mcqa import MED_MCQA
from residency.synthesis.benchmarks.med_qa import MED_QA
from residency.synthesis.benchmarks.pictures import ImageIntake
from residency.synthesis.benchmarks.pubmed_qa import PUBMED_QA

REWARD = RewardConfig()
TRICKY = (
    "A",
    "b",
    "B)",
    "(C) CT",
    "none",
    "No.",
    "not a tumour",
    "3'",
    "3",
    "5 mg",
    "5 mcg",
    "Não",
    "A, B",
    "",
    " ",
    "?",
)
texts = st.one_of(st.sampled_from(TRICKY), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
letters = st.sampled_from(["A", "B", "C", "D", "E", "a", "(b)", ""])
anything = st.one_of(texts, st.none(), st.integers(-1, 5), st.lists(texts, max_size=3))
words = texts.filter(str.strip)
four = st.tuples(words, words, words, words)


def sound_or_not(sound: st.SearchStrategy[Any], broken: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Files of up to six rows, most of them whole: rows drawn field by field are nearly all refused."""
    return st.lists(st.one_of(sound, sound, broken), max_size=6)


def import_text(benchmark: Benchmark, name: str, content: str, variant: str) -> tuple[list[Item], list[Refused]]:
    """Items and refusals of one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(content, encoding="utf-8", newline="")
        tally, items, refusals = Tally(), list[Item](), list[Refused]()
        with DatasetWriter(Path(folder) / "out") as writer:
            for row in benchmark.read(path, variant):
                taken = row
                if isinstance(row, Row):
                    taken = take(benchmark, tally.tell_apart(row), variant, ImageIntake(writer), writer)
                if isinstance(taken, Item):
                    items.append(taken)
                else:
                    assert isinstance(taken, Refused)
                    refusals.append(taken)
        return items, refusals


def check(benchmark: Benchmark, name: str, content: str, variant: str, num_rows: int) -> None:
    items, refusals = import_text(benchmark, name, content, variant)
    assert len(items) + len(refusals) == num_rows
    assert all(row.where and row.reason for row in refusals)
    assert len({item.id for item in items}) == len(items)
    for item in items:
        for mode in PromptMode:
            verdict = judge(item, item.id, render_completion(item.answer, mode), mode, REWARD)
            assert verdict.parts["accuracy"] == 1.0, (item, verdict)
        for option in () if has_twin_option(item) else set(item.options) - {item.answer}:
            verdict = judge(item, item.id, option, PromptMode.DIRECT, REWARD)
            assert verdict.parts["accuracy"] == 0.0, (item, verdict)


def lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


SOUND_EXAM = st.builds(
    lambda question, options, answer, more: {"question": question, "options": list(options), "answer": answer} | more,
    words,
    four,
    letters,
    st.fixed_dictionaries({}, optional={"id": texts, "year": anything, "specialty": texts}),
)
BROKEN_EXAM = st.fixed_dictionaries(
    {"question": anything, "answer": st.one_of(letters, texts)},
    optional={
        "id": anything,
        "options": st.one_of(anything, st.lists(texts, max_size=5), st.dictionaries(letters, texts, max_size=4)),
        "A": texts,
        "option b": texts,
        "C": texts,
        "image": texts,
    },
)


@settings(max_examples=100)
@given(sound_or_not(SOUND_EXAM, BROKEN_EXAM))
def test_exam_lines(rows: list[dict[str, Any]]) -> None:
    check(EXAM, "exam.jsonl", lines(rows), "test", len(rows))


SOUND_CELLS = st.tuples(words, words, words, texts, letters, texts).map(list)
BROKEN_CELLS = st.lists(texts, min_size=5, max_size=7)


@settings(max_examples=100)
@given(sound_or_not(SOUND_CELLS, BROKEN_CELLS), st.sampled_from(",;\t"))
def test_exam_cells(rows: list[list[str]], delimiter: str) -> None:
    written = [[cell.replace("\0", "") for cell in row] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exam.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(["Question", "A", "B", "C", "Answer", "Specialty"])
            writer.writerows(written)
        content = path.read_bytes().decode("utf-8")
    check(EXAM, "exam.csv", content, "test", sum(any(cell.strip() for cell in row) for row in written))


SOUND_MED_QA = st.builds(
    lambda question, options, right: {
        "question": question,
        "options": dict(zip("ABCD", options, strict=True)),
        "answer": options[right],
        "answer_idx": "ABCD"[right],
    },
    words,
    four,
    st.integers(0, 3),
)
BROKEN_MED_QA = st.fixed_dictionaries(
    {"question": anything, "options": st.one_of(anything, st.dictionaries(letters, texts)), "answer_idx": letters},
    optional={"answer": anything, "meta_info": anything},
)


@settings(max_examples=100)
@given(sound_or_not(SOUND_MED_QA, BROKEN_MED_QA))
def test_med_qa(rows: list[dict[str, Any]]) -> None:
    check(MED_QA, "test.jsonl", lines(rows), "test", len(rows))


SOUND_MED_MCQA = st.builds(
    lambda key, question, options, right: (
        {"id": str(key), "question": question, "cop": right}
        | dict(zip(("opa", "opb", "opc", "opd"), options, strict=True))
    ),
    st.integers(0, 9),
    words,
    four,
    st.integers(1, 4),
)
BROKEN_MED_MCQA = st.fixed_dictionaries(
    {"id": anything, "question": anything} | dict.fromkeys(("opa", "opb", "opc", "opd"), st.one_of(texts, st.none())),
    optional={"cop": st.one_of(st.none(), st.integers(-1, 6), texts), "exp": anything},
)


@settings(max_examples=100)
@given(sound_or_not(SOUND_MED_MCQA, BROKEN_MED_MCQA))
def test_med_mcqa(rows: list[dict[str, Any]]) -> None:
    seen = {row["cop"] for row in rows if isinstance(row.get("cop"), int)} - {-1}
    if {0, 4} <= seen or (seen and not {0, 4} & seen):  # how it counts cannot be told
        with pytest.raises(DataError, match="cop"):
            import_text(MED_MCQA, "dev.json", lines(rows), "dev")
    else:
        check(MED_MCQA, "dev.json", lines(rows), "dev", len(rows))


SOUND_ABSTRACT = st.builds(
    lambda question, paragraphs, decision: {
        "QUESTION": question,
        "CONTEXTS": paragraphs,
        "LABELS": ["RESULTS"] * len(paragraphs),
        "final_decision": decision,
    },
    words,
    st.lists(texts, min_size=1, max_size=3),
    st.sampled_from(["yes", "no", "maybe"]),
)
BROKEN_ABSTRACT = st.one_of(
    anything,
    st.fixed_dictionaries(
        {"QUESTION": anything, "CONTEXTS": anything, "LABELS": anything, "final_decision": anything},
        optional={"YEAR": anything, "MESHES": anything},
    ),
)


@settings(max_examples=100)
@given(sound_or_not(SOUND_ABSTRACT, BROKEN_ABSTRACT))
def test_pubmed_qa(rows: list[Any]) -> None:
    entries = {str(number): entry for number, entry in enumerate(rows)}
    check(PUBMED_QA, "ori_pqal.json", json.dumps(entries), "all", len(entries))
