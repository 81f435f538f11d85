"""Reflective examples, worked by hand: where the loss starts, which claim is named, which strategy is dealt."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.platform.recipe import RewardConfig, SynthesisConfig
from residency.platform.records import (
    AnswerKind,
    Family,
    Item,
    PromptMode,
    Split,
    Status,
    Target,
    Trace,
    Verdict,
)
from residency.platform.verifiers.judging import judge
from residency.synthesis.claims import first_wrong
from residency.synthesis.reflection import Dropped, Limits, count_pairs, flaw, reflect
from residency.synthesis.rejection import Outcome, Routed, cot_examples, route
from residency.synthesis.strategies import STRATEGY_PHRASES, Strategy, StrategyPlan, verify
from residency.synthesis.synthesized import OUTCOMES_SCHEMA, summarize, synthesize
from residency.synthesis.voice import key_leak, second_voice

EQUAL: dict[str, float] = dict.fromkeys(("verification", "backtracking", "new_path", "correction"), 0.25)
RIGHT = (
    "<think>the stain is purple. its size is large. the cells around are few. so the answer is white cell.</think>"
    "<answer>white cell</answer>"
)
WRONG_SIZE = (
    "<think>the stain is purple. its size is small. the cells around are few. so the answer is platelet.</think>"
    "<answer>platelet</answer>"
)
WRONG_STAIN = "<think> the stain is pink . so the answer is red cell . </think> <answer> red cell </answer>"


def make_item(number: int = 1) -> Item:
    return Item(
        id=f"item-{number}",
        content_key="key",
        source="test",
        split=Split.TRAIN,
        licence="MIT",
        cluster="picture",
        media=("hash",),
        question="which cell is in the middle?",
        options=("red cell", "white cell", "platelet"),
        answer="white cell",
        answer_kind=AnswerKind.CHOICE,
        family=Family.MEDICAL_MULTIMODAL,
        metadata={"task": "cell_type", "facts": {"stain": "purple", "size": "large", "crowd": "few"}},
    )


def make_traces(item: Item, *texts: str) -> list[Trace]:
    return [
        Trace(
            id=f"{item.id}/{index}",
            item_id=item.id,
            role="policy",
            model="warm-up",
            prompt_mode=PromptMode.THINK,
            prompt_hash="hash",
            seed=0,
            sample_index=index,
            text=text,
            finish_reason="stop",
        )
        for index, text in enumerate(texts)
    ]


def judged(item: Item, traces: list[Trace]) -> list[Verdict]:
    return [judge(item, trace.id, trace.text, PromptMode.THINK, RewardConfig()) for trace in traces]


def routed_of(*texts: str, item: Item | None = None) -> Routed:
    item = item or make_item()
    traces = make_traces(item, *texts)
    return route(item, traces, judged(item, traces))


def only(strategy: str) -> dict[str, float]:
    return {strategy: 1.0}


def test_loss_starts_right_behind_the_wrong_claim_and_what_comes_before_is_the_sampled_text() -> None:
    ((reflected),) = reflect([routed_of(WRONG_SIZE, RIGHT)], only("verification"), Limits(), seed=0)
    (example,) = reflected.examples
    text = example.messages[1]["content"]
    assert text[: example.loss_start] == "<think>the stain is purple. its size is small."
    assert WRONG_SIZE.startswith(text[: example.loss_start])
    taught = text[example.loss_start :]
    assert "small" in taught.split(":")[0]
    assert "its size is large" in taught
    assert taught.endswith(RIGHT.removeprefix("<think>"))
    assert any(phrase in taught for phrase in STRATEGY_PHRASES[Strategy.VERIFICATION])
    assert (example.error_kind, example.pattern) == ("cell_type.size", "verification")
    assert example.from_traces == ("item-1/0", "item-1/1")
    assert example.target is Target.REFLECTIVE


def test_odd_spacing_of_the_sampler_is_kept_before_the_loss() -> None:
    (reflected,) = reflect([routed_of(WRONG_STAIN, RIGHT)], only("new_path"), Limits(), seed=0)
    (example,) = reflected.examples
    assert example.messages[1]["content"][: example.loss_start] == "<think> the stain is pink ."


def test_correction_goes_on_from_the_corrected_claim() -> None:
    (reflected,) = reflect([routed_of(WRONG_SIZE, RIGHT)], only("correction"), Limits(), seed=0)
    text = reflected.examples[0].messages[1]["content"]
    assert text.endswith(". the cells around are few. so the answer is white cell.</think><answer>white cell</answer>")
    assert text.count("the stain is purple") == 1


def test_without_a_right_sample_the_annotations_write_the_right_trace() -> None:
    (reflected,) = reflect([routed_of(WRONG_SIZE)], only("verification"), Limits(), seed=0)
    (example,) = reflected.examples
    assert example.from_traces[0] == "item-1/0"
    assert not example.from_traces[1].startswith("item-1/")
    assert example.messages[1]["content"].endswith("so the answer is white cell.</think><answer>white cell</answer>")


def test_backtracking_never_comes_first_and_its_place_is_counted() -> None:
    shares = {"backtracking": 0.9, "correction": 0.1}
    (reflected,) = reflect([routed_of(WRONG_SIZE, WRONG_STAIN, RIGHT)], shares, Limits(), seed=0)
    assert [example.pattern for example in reflected.examples] == ["correction", "backtracking"]
    assert reflected.num_fallbacks == 1


def test_where_only_backtracking_is_wanted_a_first_wrong_trace_is_dropped() -> None:
    (reflected,) = reflect([routed_of(WRONG_SIZE, RIGHT)], only("backtracking"), Limits(), seed=0)
    assert reflected.examples == ()
    assert reflected.dropped == (Dropped.NO_STRATEGY,)


def test_strategies_keep_their_shares() -> None:
    plan = StrategyPlan({"verification": 0.5, "backtracking": 0.1, "new_path": 0.2, "correction": 0.2})
    for _ in range(200):
        strategy = plan.next("task.fact", has_earlier_wrong=True)
        assert strategy is not None
        plan.deal("task.fact", strategy)
    assert plan.total == Counter({"verification": 100, "backtracking": 20, "new_path": 40, "correction": 40})


def test_every_error_kind_meets_every_strategy() -> None:
    plan = StrategyPlan(EQUAL)
    pairs = set()
    for turn in range(32):
        kind = f"task.{turn % 8}"
        strategy = plan.next(kind, has_earlier_wrong=True)
        assert strategy is not None
        plan.deal(kind, strategy)
        pairs.add((kind, strategy))
    assert len(pairs) == 32


def test_a_wrong_answer_after_right_thinking_is_no_reflective_example() -> None:
    text = "<think>the stain is purple.</think><answer>platelet</answer>"
    (reflected,) = reflect([routed_of(text)], EQUAL, Limits(), seed=0)
    assert reflected.dropped == (Dropped.ONLY_ANSWER,)


def test_an_item_gives_a_bounded_number() -> None:
    texts = [WRONG_SIZE, WRONG_STAIN, WRONG_SIZE.replace("small", "medium")]
    (reflected,) = reflect([routed_of(*texts)], EQUAL, Limits(per_item=2), seed=0)
    assert len(reflected.examples) == 2
    assert reflected.dropped == (Dropped.BOUND,)


def test_too_long_a_text_is_dropped() -> None:
    (reflected,) = reflect([routed_of(WRONG_SIZE, RIGHT)], only("verification"), Limits(max_tokens=30), seed=0)
    assert reflected.dropped == (Dropped.TOO_LONG,)


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (WRONG_SIZE, Dropped.LAST_ANSWER),
        (RIGHT.removesuffix("</answer>"), Dropped.LAST_ANSWER),
        (RIGHT.replace("the stain", "the reference says the stain"), Dropped.LEAK),
        (RIGHT.replace("large", "small"), Dropped.FALSE_CLAIM),
        (RIGHT, None),
    ],
)
def test_flaws_of_a_completion(completion: str, reason: Dropped | None) -> None:
    assert flaw(make_item(), completion, 0, Limits()) is reason


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pink", "purple"]),
            st.sampled_from(["small", "medium", "large"]),
            st.sampled_from(["few", "some", "many"]),
            st.sampled_from(["red cell", "white cell", "platelet"]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_sampled_what_is_taught_is_right(samples: list[tuple[str, str, str, str]], seed: int) -> None:
    item = make_item()
    texts = [
        f"<think>the stain is {stain}. its size is {size}. the cells around are {crowd}. so the answer is {cell}."
        f"</think><answer>{cell}</answer>"
        for stain, size, crowd, cell in samples
    ]
    (reflected,) = reflect([routed_of(*texts, item=item)], EQUAL, Limits(per_item=9), seed)
    for example in reflected.examples:
        text = example.messages[1]["content"]
        assert any(sampled.startswith(text[: example.loss_start]) for sampled in texts)
        assert first_wrong(item, text[: example.loss_start]) is not None
        assert first_wrong(item, text[example.loss_start :]) is None
        assert judge(item, "t", text, PromptMode.THINK, RewardConfig()).score == pytest.approx(1.0)
        assert not key_leak(text)
        assert not second_voice(text)


def test_phrases_are_short() -> None:
    for pair in STRATEGY_PHRASES.values():
        assert all(len(phrase.split()) <= 6 for phrase in pair)
    wrong = first_wrong(make_item(), WRONG_SIZE)
    assert wrong is not None
    for seed in range(20):
        verification = verify(make_item(), wrong, random.Random(seed))
        assert len(verification.split()) <= 12
        assert "small" in verification
        assert "its size is large" in verification


# --- rejection


def test_traces_are_routed_by_verdict_and_claims() -> None:
    unfaithful = RIGHT.replace("large", "small")
    respaced = RIGHT.replace(". ", " . ")
    abstained = "<think>the stain is purple.</think>"
    routed = routed_of(RIGHT, WRONG_SIZE, unfaithful, respaced, abstained)
    assert [trace.sample_index for trace in routed.right] == [0]  # the respaced one has the same text
    assert [trace.sample_index for trace in routed.wrong] == [1]
    assert [trace.sample_index for trace in routed.unfaithful] == [2]
    assert (routed.passes.right, routed.passes.samples) == (3, 5)
    assert routed.outcome is Outcome.SOLVED


def test_a_students_babble_is_not_taught_but_a_teacher_may_use_its_own_words() -> None:
    babble = RIGHT.replace("the cells around", "grid mg the cells around")
    routed = routed_of(babble)
    assert (routed.outcome, len(routed.unfaithful), routed.passes.right) == (Outcome.UNFAITHFUL, 1, 1)
    item = make_item()
    (sampled,) = make_traces(item, babble)
    teacher = replace(sampled, role="teacher")
    assert route(item, [teacher], judged(item, [teacher])).right == (teacher,)


def test_babble_before_the_wrong_claim_and_conclusions_without_an_answer_are_dropped() -> None:
    babble = WRONG_SIZE.replace("the stain is purple", "mg grid of")
    nothing = "<think>the stain is purple. so the answer is in column.</think><answer>platelet</answer>"
    (reflected,) = reflect([routed_of(babble, nothing)], EQUAL, Limits(), seed=0)
    assert reflected.dropped == (Dropped.UNCLEAR, Dropped.ONLY_ANSWER)


def test_outcomes_of_items_without_a_right_trace() -> None:
    assert routed_of(WRONG_SIZE).outcome is Outcome.UNSOLVED
    assert routed_of(RIGHT.replace("large", "small")).outcome is Outcome.UNFAITHFUL
    item = make_item()
    traces = make_traces(item, RIGHT)
    fault = Verdict(
        trace_id=traces[0].id, status=Status.TIMEOUT, score=None, verifier="rules/choice", verifier_version="1"
    )
    routed = route(item, traces, [fault])
    assert (routed.outcome, routed.passes.samples, routed.right) == (Outcome.UNJUDGED, 0, ())


def test_cot_examples_are_bounded_and_verbatim() -> None:
    other = RIGHT.replace("<think>the", "<think>first, the")
    third = RIGHT.replace(". its", ". then its")
    examples = cot_examples(routed_of(RIGHT, other, third), at_most=2)
    assert [example.messages[1]["content"] for example in examples] == [RIGHT, other]
    assert [example.from_traces for example in examples] == [("item-1/0",), ("item-1/1",)]


def test_a_whole_synthesis_run_adds_up() -> None:
    items = [make_item(number) for number in range(8)]
    traces = [trace for item in items for trace in make_traces(item, WRONG_SIZE, WRONG_STAIN, RIGHT)]
    verdicts = [verdict for item in items for verdict in judged(item, [t for t in traces if t.item_id == item.id])]
    examples, outcomes = synthesize(items, traces, verdicts, SynthesisConfig(), max_tokens=96, seed=0)
    assert outcomes.schema == OUTCOMES_SCHEMA
    summary = summarize(examples, outcomes)
    assert summary["outcomes"] == {"solved": 8}
    assert (summary["samples"], summary["right"]) == (24, 8)
    assert summary["targets"] == {"cot": 8, "reflective": 16}
    assert summary["error_strategy_pairs"] == count_pairs(examples) == 7  # two kinds; backtracking only for the second
    again, _ = synthesize(items, traces, verdicts, SynthesisConfig(), max_tokens=96, seed=0)
    assert again == examples


def test_the_same_tokens_give_the_same_examples_whatever_their_traces_are_called() -> None:
    """A trace's id names the weights' incarnation, which a restart of the run raises: the mixture must not change."""
    item = make_item()
    named = [make_traces(item, WRONG_SIZE, RIGHT, WRONG_STAIN) for _ in range(6)]
    made = set()
    for number, traces in enumerate(named):
        renamed = [replace(trace, id=f"incarnation-{number}/{trace.sample_index}") for trace in traces]
        ((reflected),) = reflect(
            [route(item, renamed, judged(item, renamed))], {"verification": 0.5, "correction": 0.5}, Limits(), seed=0
        )
        made.add(tuple(example.id for example in reflected.examples))
    assert len(made) == 1
    assert made != {()}
