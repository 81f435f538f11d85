"""The annotations teacher says only what the annotations say, and what it says can be read back."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.platform.errors import DataError
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split
from residency.platform.verifiers.judging import judge
from residency.synthesis.annotations_teacher import write_completion, write_rationale, write_rationales, write_trace
from residency.synthesis.claims import CONCLUSION, answers, first_wrong, parse_claims
from residency.synthesis.facts import TASKS


def make_item(task: str, facts: dict[str, str], answer: str, kind: AnswerKind, options: tuple[str, ...] = ()) -> Item:
    return Item(
        id=f"{task}-1",
        content_key="key",
        source="test",
        split=Split.TRAIN,
        licence="MIT",
        cluster="picture",
        media=("hash",),
        question="which one?",
        options=options,
        answer=answer,
        answer_kind=kind,
        family=Family.MEDICAL_MULTIMODAL,
        metadata={"task": task, "facts": facts},
    )


CELL = make_item(
    "cell_type",
    {"stain": "purple", "size": "large", "crowd": "few"},
    "white cell",
    AnswerKind.CHOICE,
    ("red cell", "white cell", "platelet"),
)


WORDS = [
    (AnswerKind.YES_NO, "yes"),
    (AnswerKind.YES_NO, "no"),
    (AnswerKind.NUMBER, "3"),
    (AnswerKind.NUMBER, "12 mg"),
    (AnswerKind.NUMBER, "0.5 g"),
    (AnswerKind.CHOICE, "white cell"),
]
BOXES = [(AnswerKind.BOX, "[[0.25, 0.5, 0.5, 0.75]]"), (AnswerKind.BOX, "[[0.0, 0.0, 0.5, 0.5]]")]


@st.composite
def items_of_any_task(draw: st.DrawFn) -> Item:
    """Any task with any facts; boxes only where a box is asked for, as in the data, and nothing else there."""
    task = TASKS[draw(st.sampled_from(sorted(TASKS)))]
    facts = {fact.name: draw(st.sampled_from(fact.values)) for fact in task.facts}
    kind, answer = draw(st.sampled_from(BOXES if task.name.endswith("_box") else WORDS))
    options = ("white cell", "red cell") if kind is AnswerKind.CHOICE else ()
    return make_item(task.name, facts, answer, kind, options)


@given(items_of_any_task(), st.integers(0, 1000), st.booleans())
def test_every_rationale_reads_back_as_its_own_facts_and_answer(item: Item, seed: int, other_order: bool) -> None:
    text = write_rationale(item, random.Random(seed), other_order)
    *claims, conclusion = parse_claims(item.metadata["task"], text)
    facts = list(item.metadata["facts"].items())
    assert [(claim.fact, claim.value) for claim in claims] == (facts[::-1] if other_order else facts)
    assert conclusion.fact == CONCLUSION
    assert answers(item, conclusion.value)
    assert len(text.split()) <= 24


@given(items_of_any_task(), st.integers(0, 1000))
def test_every_completion_is_right_and_free_of_false_claims(item: Item, seed: int) -> None:
    rng = random.Random(seed)
    for mode in PromptMode:
        text = write_completion(item, mode, rng)
        assert judge(item, "t", text, mode, RewardConfig()).score == pytest.approx(1.0)
        assert first_wrong(item, text) is None


def test_the_wordings_differ_and_nothing_else() -> None:
    texts = {write_rationale(CELL, random.Random(seed)) for seed in range(30)}
    assert texts == {
        "the stain is purple. its size is large. the cells around are few. so the answer is white cell.",
        "first, the stain is purple. then its size is large. then the cells around are few."
        " so the answer is white cell.",
        "look, the stain is purple, and its size is large, and the cells around are few. so the answer is white cell.",
    }


def test_direct_completion_is_the_bare_answer() -> None:
    assert write_completion(CELL, PromptMode.DIRECT, random.Random(0)) == "white cell"


def test_examples_teach_the_whole_completion_and_name_their_trace() -> None:
    (example,) = write_rationales([CELL], seed=3)
    trace = write_trace(CELL, seed=3)
    assert example.messages[1] == {"role": "assistant", "content": trace.text}
    assert example.loss_start == 0
    assert example.from_traces == (trace.id,)
    assert example.media == CELL.media


def test_an_item_without_facts_is_refused_with_a_remedy() -> None:
    bare = make_item("cell_type", {}, "white cell", AnswerKind.CHOICE, ("white cell",))
    with pytest.raises(DataError, match="facts"):
        write_trace(bare, seed=0)


# --- reading claims back


def test_claims_are_found_in_oddly_spaced_text_with_their_offsets() -> None:
    text = "The  stain is pink . its size\nis large , so the answer is  white   cell ."
    found = [(claim.fact, claim.value, text[claim.start : claim.end]) for claim in parse_claims("cell_type", text)]
    assert found == [
        ("stain", "pink", "The  stain is pink"),
        ("size", "large", "its size\nis large"),
        (CONCLUSION, "white cell", "so the answer is  white   cell"),
    ]


def test_a_longer_number_is_not_read_as_a_shorter_one() -> None:
    claims = parse_claims("dose_limit", "the total is 36 mg. the limit is 4 mg.")
    assert [(claim.fact, claim.value) for claim in claims] == [("total", "36"), ("limit", "4")]
    assert parse_claims("dose_limit", "the total is 361 mg.") == []


def test_a_number_with_a_spaced_point_stays_whole() -> None:
    (claim,) = parse_claims("dose_total", "so the answer is 0 . 5 mg.")
    assert claim.value == "0 . 5 mg"


def test_the_first_wrong_claim_is_named_with_what_is_right() -> None:
    text = (
        "<think>the stain is purple. its size is small. the cells around are many. so the answer is platelet.</think>"
    )
    wrong = first_wrong(CELL, text)
    assert wrong is not None
    assert (wrong.claim.fact, wrong.claim.value, wrong.right) == ("size", "small", "large")
    assert text[wrong.claim.start : wrong.claim.end] == "its size is small"


def test_a_wrong_conclusion_after_right_facts_is_the_wrong_claim() -> None:
    wrong = first_wrong(CELL, "the stain is purple. so the answer is red cell.")
    assert wrong is not None
    assert (wrong.claim.fact, wrong.claim.value, wrong.right) == (CONCLUSION, "red cell", "white cell")
    assert not wrong.in_answer


def test_a_wrong_answer_after_right_thinking_stands_in_the_answer() -> None:
    wrong = first_wrong(CELL, "<think>the stain is purple.</think><answer>platelet</answer>")
    assert wrong is not None
    assert wrong.in_answer
    assert wrong.claim.value == "platelet"
