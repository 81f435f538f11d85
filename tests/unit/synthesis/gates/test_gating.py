"""Gates that need a model's word, and the run of all gates over a stream."""

import csv
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from residency.platform.errors import DataError
from residency.platform.media_store import MediaStore
from residency.platform.records import AnswerKind, Item
from residency.synthesis.gates.decision import GateDecision, Outcome
from residency.synthesis.gates.gate_list import Overrules, read_gate_list, read_gate_overrules
from residency.synthesis.gates.gating import FAULT, GateTally, kept_items, rule_gates, run_gates
from residency.synthesis.gates.image_necessity import SOLVED, Outcomes, necessity_decision
from residency.synthesis.gates.rubric import PROMPT_NAME, PROMPT_VERSION, parse_rating, rubric_gate
from residency.synthesis.teachers.prompt_files import load_prompt

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize(
    ("reply", "outcome", "reason"),
    [
        ('{"alignment": 2, "completeness": 2, "logic": 2, "reason": "fine"}', Outcome.PASSED, ""),
        ('```json\n{"alignment": 2, "completeness": 2, "logic": 2}\n```', Outcome.PASSED, ""),
        ('{"alignment": 1, "completeness": 2, "logic": 2, "reason": ""}', Outcome.MARKED, "limited alignment"),
        ('{"alignment": 2, "completeness": 2, "logic": 0, "reason": ""}', Outcome.REFUSED, "logic is bad"),
        ('{"alignment": 3, "completeness": 2, "logic": 2, "reason": ""}', Outcome.REFUSED, "the rating cannot be read"),
        ('{"alignment": true, "completeness": 2, "logic": 2}', Outcome.REFUSED, "the rating cannot be read"),
        ('{"alignment": 2, "logic": 2, "reason": ""}', Outcome.REFUSED, "the rating cannot be read"),
        ("I would say 2, 2 and 2.", Outcome.REFUSED, "the rating cannot be read"),
    ],
)
def test_the_rubric_is_read_strictly(reply: str, outcome: Outcome, reason: str, make_item: Callable[..., Item]) -> None:
    decision = rubric_gate(lambda _: reply)(make_item())
    assert (decision.outcome, decision.reason) == (outcome, reason)


def test_the_rubric_prompt_is_a_versioned_file_that_can_be_filled(make_item: Callable[..., Item]) -> None:
    text = load_prompt(PROMPT_NAME, PROMPT_VERSION).render({"item": make_item(options=("liver", "spleen"))})
    assert "liver; spleen" in text
    example = text[text.rindex("{") :].replace("one sentence", "x")
    assert parse_rating(example).points() == {"alignment": 0, "completeness": 0, "logic": 0}


def test_a_rating_says_what_is_wrong() -> None:
    with pytest.raises(DataError, match="no JSON"):
        parse_rating("two")


def test_what_is_solved_blind_is_marked_but_not_what_was_guessed(make_item: Callable[..., Item]) -> None:
    short = make_item(media=("a",))
    yes_no = make_item(media=("a",), answer="yes", answer_kind=AnswerKind.YES_NO)
    three_of_four = Outcomes((True,) * 4, (True, True, True, False))
    assert necessity_decision(short, three_of_four).reason == SOLVED
    assert necessity_decision(yes_no, three_of_four).outcome is Outcome.PASSED  # a coin does that in 0.31 of cases
    assert necessity_decision(yes_no, Outcomes((True,), (True,) * 8)).reason == SOLVED
    assert necessity_decision(short, Outcomes((True,), (False, False, True))).outcome is Outcome.PASSED
    assert necessity_decision(make_item(), three_of_four).outcome is Outcome.PASSED


def test_one_bad_row_never_stops_the_others(tmp_path: Path, make_item: Callable[..., Item]) -> None:
    def gate(item: Item) -> GateDecision:
        return GateDecision(gate="g", outcome=Outcome.PASSED, evidence=str(1 / len(item.id)))

    gates = {"g": gate, **rule_gates(MediaStore(tmp_path))}
    items = [make_item(), make_item(id=""), make_item(id="x", licence="unknown"), make_item(id="y", licence="CC BY-NC")]
    tally = GateTally()
    kept = list(kept_items(run_gates(items, gates, tally), tmp_path / "gates.csv"))
    assert [item.id for item in kept] == ["i1", "y"]
    assert tally.items == 4
    assert tally.kept == 2
    told = tally.as_json()
    assert told["refused"] == {f"g: {FAULT}": 1, "licence: no licence": 1}
    assert told["marked"] == {"licence: non-commercial licence": 1}
    rows = list(read_gate_list(tmp_path / "gates.csv"))
    assert rows[0]["evidence"].startswith("ZeroDivisionError")
    assert [(row["item_id"], row["decision"]) for row in rows] == [("", "leave_out"), ("x", "leave_out"), ("y", "keep")]


def test_a_person_stands_above_the_gates(tmp_path: Path, make_item: Callable[..., Item]) -> None:
    items = [make_item(id="x", licence="unknown"), make_item(id="y", licence="CC BY-NC"), make_item(id="z", licence="")]
    gates = rule_gates(MediaStore(tmp_path), names=("licence",))

    def kept(tally: GateTally, overrules: Overrules | None) -> list[str]:
        return [item.id for item in kept_items(run_gates(items, gates, tally, overrules), tmp_path / "gates.csv")]

    assert kept(GateTally(), None) == ["y"]
    rows = list(read_gate_list(tmp_path / "gates.csv"))
    for row, decision in zip(rows, ("keep", "leave_out"), strict=False):
        row |= {"decision": decision, "reviewer": "Dr. K"}
    edited = tmp_path / "edited.csv"
    with edited.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    tally = GateTally()
    assert kept(tally, read_gate_overrules(edited)) == ["x"]
    told = tally.as_json()
    assert told["decided_by_people"] == 2
    assert told["marked"] == {"licence: kept by a person": 1}
    assert kept(GateTally(), read_gate_overrules(tmp_path / "gates.csv")) == ["x"], "the new list says the same again"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("item_id,gate,decision,reviewer\nx,licence,perhaps,K\n", "line 2"),
        ("item_id,gate,decision,reviewer\nx,licence,keep,K\nx,licence,leave_out,K\n", "line 3"),
        ("item_id,decision\n", "gate"),
    ],
)
def test_a_wrong_gate_list_is_refused(text: str, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "gates.csv").write_text(text)
    with pytest.raises(DataError, match=wrong):
        read_gate_overrules(tmp_path / "gates.csv")


def test_memory_does_not_grow_with_rows(tmp_path: Path, make_item: Callable[..., Item]) -> None:
    gates = rule_gates(MediaStore(tmp_path))

    def peak(number: int) -> int:
        items: Iterator[Item] = (
            make_item(id=str(n), question=f"Which organ is enlarged in {n}?") for n in range(number)
        )
        tally = GateTally()
        tracemalloc.start()
        for _ in run_gates(items, gates, tally):
            pass
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert tally.kept == number
        return largest

    peak(9000)  # fills the caches of bounded size
    assert peak(6000) < peak(1000) + 300_000
