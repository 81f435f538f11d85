"""Items without annotated facts: the wrong conclusion is found, taken back, and the checks hold."""

import pytest

from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Trace
from residency.platform.synthesis_config import ReflectionConfig, SynthesisConfig
from residency.platform.verifiers.judging import judge
from residency.synthesis.claims import first_wrong
from residency.synthesis.invented import TEMPLATE, invent_wrong
from residency.synthesis.reflection import Dropped, Limits, is_chosen, is_named, reflect
from residency.synthesis.rejection import Routed, route
from residency.synthesis.synthesized import summarize, synthesize, yield_by_strategy
from residency.synthesis.voice import key_leak, second_voice
from residency.synthesis.wrong_answers import has_facts, wrong_conclusion

RIGHT = (
    "<think>The nucleus has several lobes and the granules are pale. Therefore it is a neutrophil.</think>"
    "<answer>neutrophil</answer>"
)
WRONG = (
    "<think>The nucleus is large. The granules are hard to see. So it is a lymphocyte. It is round.</think>"
    "<answer>lymphocyte</answer>"
)


def free_item(number: int = 0, source: str = "set") -> Item:
    return Item(
        id=f"free-{number}", content_key=str(number), source=source, split=Split.TRAIN, licence="CC0-1.0",
        cluster=str(number), media=("a" * 64,), question="Which cell is it?",
        options=("lymphocyte", "neutrophil", "monocyte"), answer="neutrophil", answer_kind=AnswerKind.CHOICE,
        family=Family.MEDICAL_MULTIMODAL,
    )  # fmt: skip


def told_item(number: int = 0) -> Item:
    return Item(
        id=f"told-{number}", content_key=f"t{number}", source="told", split=Split.TRAIN, licence="MIT", cluster="c",
        question="how many mg are 3 tablets of 2 mg?", answer="6 mg", answer_kind=AnswerKind.NUMBER,
        family=Family.TEXTUAL_REASONING,
        metadata={"task": "dose_total", "facts": {"strength": "2", "tablets": "3"}},
    )  # fmt: skip


def traces_of(item: Item, *texts: str) -> list[Trace]:
    return [
        Trace(
            id=f"{item.id}/{number}", item_id=item.id, role="teacher", model="big", prompt_mode=PromptMode.THINK,
            prompt_hash="h", seed=0, sample_index=number, text=text, finish_reason="stop",
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip


def routed_of(item: Item, *texts: str) -> Routed:
    traces = traces_of(item, *texts)
    return route(item, traces, [judge(item, t.id, t.text, PromptMode.THINK, RewardConfig()) for t in traces])


def test_an_item_without_facts_is_routed_by_its_answer_alone() -> None:
    routed = routed_of(free_item(), RIGHT, WRONG)
    assert not has_facts(routed.item)
    assert [trace.text for trace in routed.right] == [RIGHT]
    assert [trace.text for trace in routed.wrong] == [WRONG]


@pytest.mark.parametrize(
    ("text", "said", "in_answer"),
    [
        (WRONG, "lymphocyte", False),
        (WRONG.replace("<answer>lymphocyte", "<answer>A"), "lymphocyte", False),
        (WRONG.replace("<answer>lymphocyte", "<answer>monocyte"), "monocyte", True),
    ],
)
def test_the_wrong_conclusion_is_found_where_it_is_first_drawn(text: str, said: str, in_answer: bool) -> None:
    wrong = wrong_conclusion(free_item(), text)
    assert wrong is not None
    assert (wrong.claim.value, wrong.in_answer, text[wrong.claim.start : wrong.claim.end]) == (said, in_answer, said)
    assert wrong_conclusion(free_item(), RIGHT) is None


@pytest.mark.parametrize("strategy", ["verification", "new_path", "correction"])
def test_a_free_text_is_cut_at_its_wrong_conclusion_and_taken_back(strategy: str) -> None:
    (reflected,) = reflect([routed_of(free_item(), WRONG, RIGHT)], {strategy: 1.0}, Limits(), seed=0)
    (example,) = reflected.examples
    text = example.messages[1]["content"]
    first = text[: example.loss_start]
    assert first == "<think>The nucleus is large. The granules are hard to see. So it is a lymphocyte."
    assert "lymphocyte" in text[example.loss_start :].split(".")[0]
    assert text.endswith("<answer>neutrophil</answer>")
    assert ("several lobes" in text) == (strategy != "correction")
    assert example.error_kind == "choice.conclusion"


def test_without_a_right_sample_and_without_facts_nothing_is_made_up() -> None:
    (reflected,) = reflect([routed_of(free_item(), WRONG)], {"verification": 1.0}, Limits(), seed=0)
    assert reflected.dropped == (Dropped.NO_RIGHT,)
    assert reflected.attempts[0].strategy == "verification"


def test_an_error_that_is_named_must_stand_in_the_first_part() -> None:
    wrong = wrong_conclusion(free_item(), WRONG)
    assert wrong is not None
    assert is_named("so it is a  Lympho cyte", wrong)
    assert not is_named("so it is a monocyte", wrong)


@pytest.mark.parametrize(
    "text",
    [
        "The first answer given was wrong.",
        "Wait, the previous reasoning was mistaken.",
        "As you can see, it has lobes.",
        "Your answer is not right.",
        "The student said lymphocyte.",
        "之前的回答不对。",
    ],
)
def test_a_second_voice_is_heard(text: str) -> None:
    assert second_voice(text)


@pytest.mark.parametrize("text", [RIGHT, WRONG, "wait, not small: its size is large. go back to the start."])
def test_one_voice_passes(text: str) -> None:
    assert not second_voice(text)
    assert not key_leak(text)


def test_leaks_of_key_and_annotations_are_found() -> None:
    assert key_leak("The reference answer is B.")
    assert key_leak("the annotations say it is large")


def test_a_second_voice_in_the_right_trace_drops_the_example() -> None:
    told = RIGHT.replace("Therefore", "As you can see, therefore")
    (reflected,) = reflect([routed_of(free_item(), WRONG, told)], {"verification": 1.0}, Limits(), seed=0)
    assert reflected.dropped == (Dropped.SECOND_VOICE,)


def test_the_rate_is_a_share_of_items_and_a_higher_one_keeps_those_of_a_lower() -> None:
    items = [free_item(number) for number in range(400)]
    low, high = ({item.id for item in items if is_chosen(item, rate, 0)} for rate in (0.2, 0.6))
    assert low < high
    assert 50 < len(low) < 110
    assert 200 < len(high) < 280
    (reflected,) = reflect([routed_of(items[0], WRONG, RIGHT)], {"verification": 1.0}, Limits(rate=0.0), seed=0)
    assert reflected.dropped == (Dropped.RATE,)


def test_yield_by_strategy_adds_up() -> None:
    items = [free_item(number) for number in range(6)]
    traces = [trace for item in items for trace in traces_of(item, WRONG, RIGHT if item.id != "free-0" else WRONG)]
    by_id = {item.id: item for item in items}
    verdicts = [judge(by_id[t.item_id], t.id, t.text, PromptMode.THINK, RewardConfig()) for t in traces]
    config = SynthesisConfig(strategies={"verification": 1.0})
    examples, outcomes = synthesize(items, traces, verdicts, config, 96, 0)
    table = yield_by_strategy(outcomes)
    assert table == {"verification": {"candidates": 6, "kept": 5, f"refused: {Dropped.NO_RIGHT.value}": 1}}
    assert summarize(examples, outcomes)["reflection"] == table


def test_wrong_traces_are_invented_only_where_the_recipe_says_so() -> None:
    item = told_item()
    right = "<think>one tablet has 2 mg. the tablets are 3. so the answer is 6 mg.</think><answer>6 mg</answer>"
    traces = traces_of(item, right)
    verdicts = [judge(item, t.id, t.text, PromptMode.THINK, RewardConfig()) for t in traces]
    plain, _ = synthesize([item], traces, verdicts, SynthesisConfig(), 96, 0)
    assert [example.target for example in plain] == ["cot"]
    config = SynthesisConfig(reflection=ReflectionConfig(templates=True))
    made, _ = synthesize([item], traces, verdicts, config, 96, 0)
    assert [example.target for example in made] == ["cot", "reflective"]
    invented = invent_wrong(item, 0)
    assert invented is not None
    assert (invented.model, invented.id) == (TEMPLATE, made[1].from_traces[0])
    assert first_wrong(item, invented.text) is not None
