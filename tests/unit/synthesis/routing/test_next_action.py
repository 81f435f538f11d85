"""Routing: each rule by a case worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.synthesis_config import RoutingConfig
from residency.synthesis.routing.actions import Accept, Action, Ask, Drop, Escalate, MaskedReanswer
from residency.synthesis.routing.next_action import Routing, next_action
from residency.synthesis.routing.samples import Sample, Strategy, first_draws

ITEM = Item(
    id="i", content_key="c", source="s", split=Split.TRAIN, licence="CC0", cluster="i", question="?", answer="yes",
    answer_kind=AnswerKind.YES_NO, family=Family.TEXTUAL_REASONING,
)  # fmt: skip


def drawn(marks: str, teacher: int = 0, strategy: Strategy = Strategy.SAMPLED) -> list[Sample]:
    """``r`` right, ``w`` wrong, ``m`` malformed, ``f`` right in a broken form."""
    kinds = {"r": (True, ""), "w": (False, ""), "m": (None, "malformed: empty"), "f": (True, "broken format")}
    return [Sample(strategy=strategy, teacher=teacher, right=kinds[m][0], fault=kinds[m][1]) for m in marks]


def again(of: int, right: bool, teacher: int = 0) -> Sample:
    return Sample(strategy=Strategy.REANSWER, teacher=teacher, right=right, of=of)


def act(samples: list[Sample], teachers: int = 2, **rules: object) -> Action:
    config = RoutingConfig.model_validate({"malformed_retries": 1, **rules})
    return next_action(ITEM, samples, Routing(config=config, teachers=teachers, samples=8, temperature=0.7))


def test_k_samples_are_asked_at_once_and_missing_ones_are_not_asked_twice() -> None:
    assert act([]) == Ask(n=8, temperature=0.7, teacher=0)


def test_six_of_eight_are_re_answered_and_those_still_right_kept() -> None:
    samples = drawn("rrrrrrww")
    assert act(samples) == MaskedReanswer(samples=(0, 1, 2, 3, 4, 5), teacher=0)
    assert act([*samples, *(again(n, n != 3) for n in range(6))]) == Accept(samples=(0, 1, 2, 4, 5))
    assert act(samples, masked_reanswer=False) == Accept(samples=(0, 1, 2, 3, 4, 5))


def test_where_no_reasoning_leads_to_its_answer_the_stronger_teacher_is_asked() -> None:
    samples = [*drawn("rrrrrrww"), *(again(n, False) for n in range(6))]
    assert act(samples) == Escalate(n=2, temperature=0.7, teacher=1)
    assert act(samples, teachers=1) == Drop(reason="no reasoning leads to its answer again")


@pytest.mark.parametrize("right", [3, 4, 5])
def test_three_to_five_of_eight_escalate_with_the_reference(right: int) -> None:
    assert act(drawn("r" * right + "w" * (8 - right))) == Escalate(n=2, temperature=0.7, teacher=1)


@pytest.mark.parametrize("right", [0, 1, 2])
def test_below_three_of_eight_the_item_drops(right: int) -> None:
    assert act(drawn("r" * right + "w" * (8 - right))) == Drop(reason=f"right in {right} of 8 samples")


def test_a_hard_item_gets_its_extension_before_it_drops() -> None:
    hard = drawn("rrwwwwww")
    assert act(hard, extension=4, extension_temperature=1.2) == Ask(
        n=4, temperature=1.2, teacher=0, strategy=Strategy.EXTENDED
    )
    extended = hard + drawn("rrrw", strategy=Strategy.EXTENDED)  # 5 of 12
    assert act(extended, extension=4) == Escalate(n=2, temperature=0.7, teacher=1)
    assert first_draws(extended) == (5, 12)


def test_enough_right_ones_stop_early() -> None:
    assert act([], enough=2) == Ask(n=2, temperature=0.7, teacher=0)
    assert act(drawn("rw"), enough=2) == Ask(n=1, temperature=0.7, teacher=0)
    assert act(drawn("rwr"), enough=2, masked_reanswer=False) == Accept(samples=(0, 2))
    # K is the end also then
    assert act(drawn("rwwwwwww"), enough=2) == Drop(reason="right in 1 of 8 samples")


def test_malformed_replies_are_asked_anew_and_then_count_for_nothing() -> None:
    assert act(drawn("rrrrrrrm")) == Ask(n=1, temperature=0.7, teacher=0)
    assert act(drawn("rrrrrrrmm"), masked_reanswer=False) == Accept(samples=tuple(range(7)))
    assert act(drawn("m" * 9), teachers=1) == Drop(reason="no sample could be judged: malformed: empty")


def test_right_answers_in_a_broken_form_count_but_are_not_kept() -> None:
    assert act(drawn("ffffffff")) == Escalate(n=2, temperature=0.7, teacher=1)
    assert act(drawn("rrrrrrff"), masked_reanswer=False) == Accept(samples=(0, 1, 2, 3, 4, 5))


def test_the_teacher_with_the_reference_is_kept_only_without_a_leak() -> None:
    before = drawn("rrrwwwww")
    leak = Sample(strategy=Strategy.WITH_REFERENCE, teacher=1, right=True, fault="leak (was told: 'x')")
    good = Sample(strategy=Strategy.WITH_REFERENCE, teacher=1, right=True)
    assert act([*before, leak, good]) == Accept(samples=(9,))
    dropped = act([*before, leak, leak])
    assert isinstance(dropped, Drop)
    assert "leak" in dropped.reason
    malformed = Sample(strategy=Strategy.WITH_REFERENCE, teacher=1, right=None, fault="malformed: empty")
    assert act([*before, malformed, leak]) == Escalate(n=1, temperature=0.7, teacher=1)


def test_without_routing_right_ones_are_kept_and_unsolved_items_go_on() -> None:
    plain = Routing(config=None, teachers=2, samples=4, temperature=1.0)
    assert next_action(ITEM, [], plain) == Ask(n=4, temperature=1.0, teacher=0)
    assert next_action(ITEM, drawn("wwrw"), plain) == Accept(samples=(2,))
    assert next_action(ITEM, drawn("wwww"), plain) == Ask(n=4, temperature=1.0, teacher=1)
    both = drawn("wwww") + drawn("wwww", teacher=1)
    assert next_action(ITEM, both, plain) == Drop(reason="right in 0 of 4 samples")


@given(
    st.data(), st.integers(1, 3), st.integers(1, 8), st.booleans(), st.integers(0, 3), st.integers(0, 2),
    st.one_of(st.none(), st.integers(1, 4)), st.floats(0, 0.5), st.booleans(),
)  # fmt: skip
def test_every_item_comes_to_an_end(
    data: st.DataObject, teachers: int, k: int, masked: bool, extension: int, retries: int, enough: int | None,
    drop_below: float, reference: bool,
) -> None:  # fmt: skip
    """Whatever the samples turn out to be, routing ends, keeps only sound right ones, and asks a bounded number."""
    config = RoutingConfig(
        enough=enough, extension=extension, drop_below=drop_below, masked_reanswer=masked, malformed_retries=retries,
        reference=reference,
    )  # fmt: skip
    routing = Routing(config=config, teachers=teachers, samples=k, temperature=1.0)
    samples: list[Sample] = []
    kinds = st.sampled_from([(True, ""), (False, ""), (None, "malformed"), (True, "broken format")])
    for _ in range(100):
        action = next_action(ITEM, samples, routing)
        match action:
            case Accept():
                assert action.samples
                assert all(samples[n].right and not samples[n].fault for n in action.samples)
                return
            case Drop():
                assert action.reason
                return
            case MaskedReanswer():
                plan = [(Strategy.REANSWER, of) for of in action.samples]
            case Ask():
                plan = [(action.strategy, -1)] * action.n
            case Escalate():
                plan = [(Strategy.WITH_REFERENCE, -1)] * action.n
        assert plan
        for strategy, of in plan:
            right, fault = data.draw(kinds)
            samples.append(Sample(strategy=strategy, teacher=action.teacher, right=right, fault=fault, of=of))
        assert len(samples) <= teachers * 2 * (k + extension + retries + 4)
    raise AssertionError("routing went on and on")
