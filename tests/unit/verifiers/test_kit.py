"""The test kit of the verifiers: large enough, frozen where it was written blind, and judged right.

``python benchmarks/verifier_rates.py --failures`` lists the cases that a rule gets wrong.
"""

import hashlib
import importlib.util
import itertools
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, PromptMode
from residency.platform.verifiers.accepting import accept
from residency.platform.verifiers.judging import judge

KIT = Path(__file__).resolve().parents[2] / "kit"
KINDS = [kind.value for kind in AnswerKind if kind is not AnswerKind.REPORT]
MIN_WRONG, MIN_RIGHT = 1500, 500
MAX_FALSE_ACCEPTS, MAX_FALSE_REJECTS = 0.002, 0.01
MAX_FILE_BYTES = 4_000_000


@pytest.fixture(scope="module")
def kit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kit_cases", KIT / "cases.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cases(kit: ModuleType) -> list[Any]:
    return kit.load_cases()


def test_repetitions_are_written_out(kit: ModuleType, tmp_path: Path) -> None:
    assert kit.expand("a{{repeat:3:bc}}d{{repeat:2:\n}}") == "abcbcbcd\n\n"
    assert kit.expand("{{repeat:2:\\boxed{}}x") == "\\boxed{\\boxed{x"
    assert kit.expand("{{answer}} {{repeat:x:y}}") == "{{answer}} {{repeat:x:y}}"
    row = {"id": "a", "kind": "short", "question": "?", "options": [], "answer": "x", "metadata": {}, "mode": "direct"}
    line = {**row, "text": "\u2028{{repeat:1000000:a}}", "right": False, "family": "adversarial", "note": "1 MB"}
    (tmp_path / "own.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    (case,) = kit.load_cases(tmp_path)
    assert (len(case.text), case.source, case.mode) == (1_000_001, "own", PromptMode.DIRECT)
    assert (case.item().answer_kind, case.item().answer) == (AnswerKind.SHORT, "x")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_enough_cases_and_a_third_of_them_blind(cases: list[Any], kind: str) -> None:
    for right, least in ((False, MIN_WRONG), (True, MIN_RIGHT)):
        sources = Counter(case.source == "blind" for case in cases if case.kind == kind and case.right is right)
        assert sources.total() >= least
        assert 3 * sources[True] >= sources.total()


@pytest.mark.parametrize("path", ["blind", "unseen/unseen"])
def test_the_blind_cases_are_those_that_were_frozen(path: str) -> None:
    frozen = (KIT / f"{path}.sha256").read_text().split()[0]
    assert hashlib.sha256((KIT / f"{path}.jsonl").read_bytes()).hexdigest() == frozen


def test_the_unseen_cases_are_apart_and_no_repetition_of_the_kit(kit: ModuleType, cases: list[Any]) -> None:
    unseen = kit.load_cases(KIT / "unseen")
    counts = Counter((case.kind, case.right) for case in unseen)
    assert all(
        counts[AnswerKind(kind), right] >= least for kind in KINDS for right, least in ((False, 260), (True, 130))
    )
    known = {(case.question, case.answer, case.text) for case in cases}
    assert not [case.id for case in unseen if (case.question, case.answer, case.text) in known]


def test_cases_are_whole_and_none_stands_twice(cases: list[Any]) -> None:
    assert {case.kind for case in cases} == set(KINDS)
    assert {case.family for case in cases} == {"golden", "paraphrased", "mutated", "adversarial"}
    assert all(case.note for case in cases)
    assert all((case.answer in case.options) is (case.kind is AnswerKind.CHOICE) for case in cases)
    for key in ("id", "whole"):
        counts = Counter(
            case.id
            if key == "id"
            else (case.kind, case.mode, case.question, case.options, case.answer, str(case.metadata), case.text)
            for case in cases
        )
        assert [repeated for repeated, count in counts.items() if count > 1] == []
    assert max(path.stat().st_size for path in KIT.glob("*.jsonl")) < MAX_FILE_BYTES


def overlap(a: list[float], b: list[float]) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def test_labels_of_boxes_hold_when_every_pairing_is_tried(cases: list[Any]) -> None:
    checked = Counter[bool]()
    for case in cases:
        if case.kind is AnswerKind.BOX and case.mode is PromptMode.DIRECT and len(case.text) < 500:
            try:
                said, gold = json.loads(case.text.strip()), json.loads(case.answer)
            except ValueError:
                continue  # not a bare list
            if not said or not isinstance(said, list):
                continue
            said = said if isinstance(said[0], list) else [said]
            numbers = all(len(box) == 4 and all(type(edge) in (int, float) for edge in box) for box in said)
            if not numbers or not all(0 <= b[0] < b[2] <= 1 and 0 <= b[1] < b[3] <= 1 for b in said):
                assert not case.right, case.id
                continue
            few, many = sorted((said, gold), key=len)
            if len(many) > 7:
                continue  # too many pairings to try
            best = max(
                sum(map(overlap, few, order), start=0.0) for order in itertools.permutations(many, len(few))
            ) / len(many)
            assert (best >= 0.5) is case.right, f"{case.id}: mean IoU {best:.3f}"
            checked[case.right] += 1
    assert min(checked[True], checked[False]) > 100


@pytest.mark.parametrize("kind", KINDS)
def test_false_accepts_and_false_rejects_are_rare(cases: list[Any], kind: str) -> None:
    of_kind = [case for case in cases if case.kind == kind]
    missed: dict[bool, list[str]] = {True: [], False: []}
    for case in of_kind:
        verdict = judge(case.item(), case.id, case.text, case.mode, RewardConfig())
        if accept(verdict) is not case.right:
            missed[case.right].append(f"{case.id}: {verdict.evidence[:200]}")
    count = Counter(case.right for case in of_kind)
    assert len(missed[False]) <= MAX_FALSE_ACCEPTS * count[False], "\n".join(missed[False])
    assert len(missed[True]) <= MAX_FALSE_REJECTS * count[True], "\n".join(missed[True])
