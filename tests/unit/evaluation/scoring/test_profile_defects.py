"""Each known defect of MedEvalKit's scoring under both profiles; docs/scoring.md shows these very cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status, Verdict
from residency.platform.verifiers.accepting import accept
from residency.training.evaluation.scoring.profiles import MEDEVALKIT, STRICT

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "scoring.md"
ORGANS = ("liver", "spleen", "heart", "left kidney")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    defect: str
    source: str
    gold: str
    text: str
    medevalkit: str
    strict: str
    kind: AnswerKind = AnswerKind.SHORT
    options: Sequence[str] = ()
    mode: PromptMode = PromptMode.DIRECT
    metadata: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case(
        defect="A refusal earns a guess: the nearest option by difflib",
        source="med-xpert-qa",
        kind=AnswerKind.CHOICE,
        options=ORGANS,
        gold="heart",
        text="I cannot tell",
        medevalkit="wrong",
        strict="abstained",
    ),
    Case(
        defect="Noise can earn guess credit",
        source="med-xpert-qa",
        kind=AnswerKind.CHOICE,
        options=ORGANS,
        gold="heart",
        text="hhh eee aaa",
        medevalkit="right",
        strict="abstained",
    ),
    Case(
        defect="An empty answer to a choice counts as A",
        source="pmc-vqa",
        kind=AnswerKind.CHOICE,
        options=ORGANS,
        gold="liver",
        text="",
        medevalkit="right",
        strict="abstained",
    ),
    Case(
        defect="A letter in brackets is not read, and the guess goes to another option",
        source="omni-med-vqa",
        kind=AnswerKind.CHOICE,
        options=("liver", "an enlarged spleen", "rib"),
        gold="an enlarged spleen",
        text="(B)",
        medevalkit="wrong",
        strict="right",
    ),
    Case(
        defect="Two options named: one of them gets the guess",
        source="med-xpert-qa",
        kind=AnswerKind.CHOICE,
        options=ORGANS,
        gold="spleen",
        text="liver or spleen",
        medevalkit="right",
        strict="wrong",
    ),
    Case(
        defect="MMMU: a small letter is not found, and a random one is drawn",
        source="mmmu-med",
        kind=AnswerKind.CHOICE,
        options=ORGANS,
        gold="spleen",
        text="b",
        medevalkit="wrong",
        strict="right",
    ),
    Case(
        defect="MMMU: the article A is taken for the letter A",
        source="mmmu-med",
        kind=AnswerKind.CHOICE,
        options=ORGANS,
        gold="liver",
        text="There is A mass, so spleen.",
        medevalkit="right",
        strict="wrong",
    ),
    Case(
        defect="MMMU: an open answer is right if it contains the gold anywhere",
        source="mmmu-med",
        gold="cyst",
        text="no cyst but an abscess",
        metadata={"row": "test_Clinical_Medicine_7"},
        medevalkit="right",
        strict="wrong",
    ),
    Case(
        defect="MMMU validation: no open answer can be right",
        source="mmmu-med",
        gold="cyst",
        text="cyst",
        metadata={"row": "validation_Clinical_Medicine_7"},
        medevalkit="wrong",
        strict="right",
    ),
    Case(
        defect="no is found inside normal",
        source="vqa-rad",
        kind=AnswerKind.YES_NO,
        gold="no",
        text="normal",
        medevalkit="right",
        strict="abstained",
    ),
    Case(
        defect="no is found inside not and nodule, so a clear yes is lost",
        source="path-vqa",
        kind=AnswerKind.YES_NO,
        gold="yes",
        text="Yes, a nodule.",
        medevalkit="wrong",
        strict="right",
    ),
    Case(
        defect="SLAKE's capital Yes never meets the yes/no rule: only the bare word counts",
        source="slake",
        kind=AnswerKind.YES_NO,
        gold="yes",
        text="Yes, it is.",
        metadata={"answer_type": "CLOSED", "gold": "Yes", "language": "en"},
        medevalkit="wrong",
        strict="right",
    ),
    Case(
        defect="SLAKE: a blank at the end makes a closed answer wrong",
        source="slake",
        gold="Liver",
        text="Liver ",
        metadata={"answer_type": "CLOSED", "gold": "Liver", "language": "en"},
        medevalkit="wrong",
        strict="right",
    ),
    Case(
        defect="An open answer with a full stop is wrong",
        source="vqa-rad",
        gold="left lung",
        text="Left lung.",
        medevalkit="wrong",
        strict="right",
    ),
    Case(
        defect="An empty open answer ends the whole run with an exception",
        source="vqa-rad",
        gold="left lung",
        text="",
        medevalkit="wrong",
        strict="abstained",
    ),
    Case(
        defect="The word boxed without a box throws the answer away",
        source="vqa-rad",
        kind=AnswerKind.YES_NO,
        gold="yes",
        text="Yes, in the boxed area",
        medevalkit="wrong",
        strict="right",
    ),
)


def make_item(case: Case) -> Item:
    return Item(
        id="0123456789abcdef",
        content_key="content",
        source=case.source,
        split=Split.HELD_OUT,
        licence="CC0",
        cluster="image",
        question="What is shown?",
        options=tuple(case.options),
        answer=case.gold,
        answer_kind=case.kind,
        family=Family.MEDICAL_MULTIMODAL,
        metadata=case.metadata,
    )


def verdicts(case: Case) -> tuple[Verdict, Verdict]:
    item = make_item(case)
    first, second = (profile.score(item, "t", case.text, case.mode) for profile in (MEDEVALKIT, STRICT))
    return first, second


def word(verdict: Verdict) -> str:
    if verdict.status is Status.SCORED:
        return "right" if accept(verdict) else "wrong"
    return verdict.status.value


def table() -> str:
    lines = ["| defect | set | gold | answer | medevalkit | strict |", "|---|---|---|---|---|---|"]
    for case in CASES:
        text = case.text.replace("\n", "↵")
        shown = f"`{text}`" if text else "(nothing)"
        medevalkit, strict = (word(verdict) for verdict in verdicts(case))
        lines.append(f"| {case.defect} | {case.source} | {case.gold} | {shown} | {medevalkit} | {strict} |")
    return "\n".join(lines)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.defect)
def test_both_profiles_on_a_defect(case: Case) -> None:
    medevalkit, strict = verdicts(case)
    assert word(medevalkit) == case.medevalkit, medevalkit.evidence
    assert word(strict) == case.strict, strict.evidence


def test_every_defect_costs_or_gives_something() -> None:
    assert all(case.medevalkit != case.strict for case in CASES)


def test_the_document_shows_these_cases() -> None:
    assert table() in DOCUMENT.read_text(), f"the table in {DOCUMENT.name} is old; it should read:\n{table()}"
