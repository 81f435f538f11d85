"""The engine on a real journal: every item comes to its end, and a restart asks only what is missing."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from residency.platform.errors import DataError
from residency.platform.journal.reader import read_state
from residency.platform.journal.state import Stage
from residency.platform.records import Item
from residency.platform.synthesis_config import BudgetConfig, RoutingConfig
from residency.synthesis.pipeline.ledger import count_outcomes, read_ledger, read_outcomes
from residency.synthesis.teachers.prompt_files import load_prompt
from residency.synthesis.teachers.teacher import TeacherError, TeacherRefusedError, TeacherRequest


def row_of(request: TeacherRequest) -> int:
    return int(request.item.id.removeprefix("item"))


def test_every_row_ends_accepted_rejected_or_as_a_dead_letter(bench: Any) -> None:
    def say(request: TeacherRequest) -> str | Exception:
        kinds = [bench.right, bench.wrong, "", TeacherError("HTTP 500"), DataError("image gone")]
        return kinds[row_of(request) % 5]

    teacher = bench.told(say)
    report = bench.run(bench.make_items(100), teacher)
    assert (report.accepted, report.rejected, report.dead_letters, report.items) == (20, 40, 40, 100)
    assert report.stopped == ""
    assert Counter(request.key for request in teacher.asked) == {
        f"synth/item{row:04d}/0": 3 if row % 5 > 2 else 1 for row in range(100)
    }
    rows = read_ledger(bench.logs).to_pylist()
    assert Counter((row["decision"], row["verdict"]) for row in rows) == {
        ("accepted", "scored"): 20, ("rejected", "scored"): 20, ("rejected", "malformed"): 20}  # fmt: skip
    assert count_outcomes(bench.logs) == {
        "accepted": 20, "rejected: right in 0 of 1 samples": 20,
        "rejected: no sample could be judged: malformed: the completion is empty": 20,
    }  # fmt: skip
    accepted = next(row for row in rows if row["decision"] == "accepted")
    assert accepted["prompt"] == "reason-1"
    assert accepted["prompt_hash"] == load_prompt("reason", 1).prompt_hash
    assert (accepted["source_row"], accepted["licence"], accepted["tokens_in"]) == ("line 0", "CC0", 10)
    assert (accepted["cost"], accepted["accuracy"], accepted["strategy"]) == (0.01, 1.0, "sampled")


def test_dead_letters_are_taken_up_and_their_items_end(bench: Any) -> None:
    items = bench.make_items(10)
    broken = bench.told(lambda request: TeacherError("HTTP 500") if row_of(request) == 3 else bench.right)
    assert bench.run(items, broken, samples=2).dead_letters == 1
    assert bench.run(items, broken, samples=2).dead_letters == 1  # not asked again unless somebody says so
    assert len(broken.asked) == 18 + 2 * 3
    mended = bench.told(lambda request: bench.right)
    report = bench.run(items, mended, samples=2, take_up=True)
    assert (report.accepted, report.finished_before, report.dead_letters) == (1, 9, 0)
    assert {row_of(request) for request in mended.asked} == {3}


def test_a_spent_budget_stops_cleanly_and_a_higher_one_goes_on(bench: Any) -> None:
    items = bench.make_items(200)
    first = bench.told(lambda request: bench.right)
    report = bench.run(items, first, budget=BudgetConfig(tokens=15 * 50))
    assert report.stopped.endswith("raise synthesis.budget.tokens to go on")
    assert 50 <= report.accepted < 120
    assert report.accepted == len(first.asked), "what was in flight ended"
    assert report.spent.tokens_in == 10 * len(first.asked)
    again = bench.told(lambda request: bench.right)
    assert bench.run(items, again, budget=BudgetConfig(tokens=15 * 50)).accepted == 0
    assert again.asked == [], "earlier starts count"
    last = bench.told(lambda request: bench.right)
    report = bench.run(items, last)
    assert (report.items, report.stopped) == (200, "")
    asked = Counter(request.key for request in [*first.asked, *last.asked])
    assert set(asked.values()) == {1}
    assert len(asked) == 200


def test_money_and_hours_stop_it_too(bench: Any) -> None:
    teacher = bench.told(lambda request: bench.right)
    assert "0.1 in money" in bench.run(bench.make_items(100), teacher, budget=BudgetConfig(money=0.1)).stopped
    assert "hours" in bench.run(bench.make_items(100), teacher, budget=BudgetConfig(hours=1e-9)).stopped


def test_an_item_half_way_is_led_on_from_its_answers(bench: Any) -> None:
    """The driver ends while items have some of their samples; the next start asks for the others only."""
    items = bench.make_items(30)

    def say(request: TeacherRequest) -> str | Exception:
        if row_of(request) == 20 and request.sample == 3:
            return TeacherRefusedError("key withdrawn")
        return bench.wrong if request.sample else bench.right

    first = bench.told(say)
    with pytest.raises(TeacherRefusedError, match="key withdrawn"):
        bench.run(items, first, samples=4)
    state = read_state(bench.folder / "journal")
    done = {key for key, now in state.keys.items() if now.stage in (Stage.ANSWERED, Stage.JUDGED)}
    assert 0 < len(done) < 120
    second = bench.told(lambda request: bench.wrong if request.sample else bench.right)
    report = bench.run(items, second, samples=4)
    assert (report.accepted + report.finished_before, report.items) == (30, 30)
    assert not done & {request.key for request in second.asked}
    ledger = read_ledger(bench.logs)
    assert ledger.num_rows == 120
    assert Counter(ledger.column("decision").to_pylist()) == {"accepted": 30, "rejected": 90}
    assert {(row["right"], row["samples"]) for row in read_outcomes(bench.logs).to_pylist()} == {(1, 4)}


def test_a_changed_recipe_is_refused_where_it_would_mix(bench: Any) -> None:
    items = bench.make_items(10)
    bench.run(items[:5], bench.told(lambda request: TeacherError("no")), samples=1)
    with pytest.raises(DataError, match="is asked as"):
        bench.run(items, bench.told(lambda request: bench.right, name="another"), take_up=True)


def test_an_item_that_cannot_be_judged_stops_nobody(bench: Any) -> None:
    async def judging(pairs: list[tuple[Item, str]]) -> Any:
        if any(item.id == "item0007" for item, _ in pairs):
            raise DataError("item0007 has no box")
        return await bench.judge(pairs)

    report = bench.run(bench.make_items(40), bench.told(lambda request: bench.right), judging=judging)
    assert (report.accepted, report.rejected) == (39, 1)
    assert any("item0007 has no box" in reason for reason in report.reasons)


def test_rows_in_memory_are_bounded(bench: Any) -> None:
    taken = 0
    teacher = bench.told(lambda request: bench.right)

    def stream() -> Iterator[Item]:
        nonlocal taken
        for item in bench.make_items(2000):
            taken += 1
            assert taken - len(teacher.asked) <= 64 + 8, "taken far ahead of what is asked"
            yield item

    assert bench.run(stream(), teacher).accepted == 2000


def test_routing_goes_through_re_answering_to_the_reference(bench: Any) -> None:
    def weak(request: TeacherRequest) -> str:
        if "Their notes" in request.prompt:  # a second call, from the masked reasoning
            assert "so yes" not in request.prompt
            return bench.right if row_of(request) == 0 else bench.wrong
        return bench.right

    def strong(request: TeacherRequest) -> str:
        assert "The correct answer is known to be: yes" in request.prompt
        if request.sample % 2 == 0:
            return "<think>Since the correct answer is yes, it is round.</think><answer>yes</answer>"
        return bench.right

    rules = RoutingConfig(escalation_samples=2)
    report = bench.run(
        bench.make_items(2), bench.told(weak, "weak"), bench.told(strong, "strong"), routing=rules, samples=4
    )
    assert report.accepted == 2
    first, second = read_outcomes(bench.logs).sort_by("item_id").to_pylist()
    assert (first["teacher"], first["accepted"], second["teacher"], second["accepted"]) == ("weak", 4, "strong", 1)
    rows = [row for row in read_ledger(bench.logs).to_pylist() if row["item_id"] == "item0001"]
    assert Counter((row["strategy"], row["decision"]) for row in rows) == {
        ("sampled", "rejected"): 4, ("reanswer", "rejected"): 4, ("with_reference", "accepted"): 1,
        ("with_reference", "rejected"): 1}  # fmt: skip
    assert any(row["reason"].startswith("leak (follows the given answer") for row in rows)


def test_structured_replies_are_traces_like_others(bench: Any) -> None:
    def say(request: TeacherRequest) -> str:
        assert request.schema is not None
        assert "JSON object" in request.prompt
        return '{"reasoning": "it is round", "answer": "yes"}' if row_of(request) else "round, so yes"

    report = bench.run(bench.make_items(3), bench.told(say), structured=True)
    assert (report.accepted, report.rejected) == (2, 1)
    assert any("no JSON" in reason for reason in report.reasons)
