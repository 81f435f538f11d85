"""PubMedQA (PQA-L): 1,000 questions on abstracts, answered yes, no or maybe, as ``ori_pqal.json`` publishes them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family
from residency.synthesis.benchmarks.gold_answers import labels
from residency.synthesis.benchmarks.importing import Benchmark, Refused, Row
from residency.synthesis.benchmarks.published_files import Record, UnusableRow, build_rows
from residency.synthesis.benchmarks.text_rows import not_utf8, parse

OPTIONS = ("yes", "no", "maybe")
QUESTIONS_FILE, TEST_FILE = "ori_pqal.json", "test_ground_truth.json"


class Abstract(BaseModel):
    """One entry. The conclusion (LONG_ANSWER) is never part of the question: it gives the answer away."""

    QUESTION: str
    CONTEXTS: list[str]
    LABELS: list[str]
    MESHES: list[str] = []
    YEAR: str | None = None
    final_decision: Literal["yes", "no", "maybe"]
    LONG_ANSWER: str = ""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object by PubMed id; raises DataError where it does not."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", f"{path.name} of PubMedQA", "put it there") from None
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error})", "the file as published") from error
    if not isinstance(loaded, dict):
        raise DataError(f"{path} holds a {type(loaded).__name__}", "one JSON object, by PubMed id")
    return loaded


def render_question(abstract: Abstract) -> str:
    """The labelled paragraphs of the abstract, then the question."""
    paragraphs = [f"{label}: {text}" for label, text in zip(abstract.LABELS, abstract.CONTEXTS, strict=True)]
    return "\n".join([*paragraphs, "", abstract.QUESTION])


def read_pubmed_qa(source: Path, variant: str) -> Iterator[Row | Refused]:
    """Every entry of the variant: all 1,000, the 500 that the test list names, or the 500 that it does not."""
    path = source / QUESTIONS_FILE if source.is_dir() else source
    entries = read_object(path)
    if variant == "all":
        chosen: Mapping[str, Any] = dict.fromkeys(entries)
    else:
        test = read_object(path.with_name(TEST_FILE))
        chosen = test if variant == "test" else {key: None for key in entries if key not in test}
    ranks = {key: rank for rank, key in enumerate(entries, start=1)}

    def build(record: Record) -> Row:
        return read_entry(record, chosen[record.fields["key"]])

    for key in chosen:
        if key not in entries:
            yield Refused(key=key, where=f"{TEST_FILE} ({key})", reason=f"in the test list, but not in {path.name}")
            continue
        fields = entries[key] if isinstance(entries[key], dict) else {}
        where = f"{path.name} entry {ranks[key]} ({key})"
        yield from build_rows(iter((Record(where, ranks[key], fields | {"key": key}),)), build)


def read_entry(record: Record, listed: str | None) -> Row:
    """One entry; ``listed`` is the answer that the test list gives, where one is asked for."""
    abstract = parse(Abstract, record)
    if not abstract.CONTEXTS or len(abstract.CONTEXTS) != len(abstract.LABELS):
        detail = f"{len(abstract.CONTEXTS)} paragraphs, {len(abstract.LABELS)} labels"
        raise UnusableRow("no abstract with one label a paragraph", detail)
    if not abstract.QUESTION.strip():
        raise UnusableRow("no question")
    if listed is not None and listed != abstract.final_decision:
        detail = f"{listed!r} in the list, {abstract.final_decision!r} in the entry"
        raise UnusableRow("the test list gives another answer", detail)
    return Row(
        key=record.fields["key"],
        where=record.where,
        question=render_question(abstract),
        options=OPTIONS,
        answer=abstract.final_decision,
        answer_kind=AnswerKind.CHOICE,
        metadata=labels(language="en", year=abstract.YEAR, meshes=abstract.MESHES, explanation=abstract.LONG_ANSWER),
    )


PUBMED_QA = Benchmark(
    name="pubmed-qa",
    title="PubMedQA",
    licence="MIT",
    family=Family.TEXTUAL_REASONING,
    published={"all": 1000, "test": 500, "train": 500},
    source="arXiv:1909.06146 (Jin et al. 2019); GitHub pubmedqa/pubmedqa",
    read=read_pubmed_qa,
    note="Choice of yes, no, maybe with the abstract in the question and its conclusion left out. Always answering yes"
    " is right on 55.2 % of all 1,000. Published scores are on the 500 of the variant test, which are half of `all`.",
    files=f"{QUESTIONS_FILE}, and {TEST_FILE} beside it for the variants test and train",
)
BENCHMARKS = (PUBMED_QA,)
