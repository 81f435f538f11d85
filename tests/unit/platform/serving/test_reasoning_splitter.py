"""Reasoning and answer taken apart while they stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.platform.reasoning import split_reasoning
from residency.platform.serving.reasoning_splitter import TAGS, ReasoningSplitter, split_completion

TEXTS = st.lists(st.one_of(st.sampled_from([*TAGS, "<", "</", "<thin", " ", "\n"]), st.text(max_size=4))).map("".join)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>round</think><answer>left</answer>", "round", "left"),
        ("<think> a <b </think>\n<answer> left </answer>", "a <b", "left"),
        ("left", "", "left"),
        ("", "", ""),
        ("<think>it broke off", "it broke off", ""),
        ("<think>no end<answer>left", "no end", "left"),
        ("a < b", "", "a < b"),
        ("ends with <thi", "", "ends with <thi"),
        ("<think>a</think>b<think>c</think>d", "ac", "bd"),
    ],
)
def test_cases(text: str, reasoning: str, answer: str) -> None:
    assert split_completion(text) == (reasoning, answer)


@given(TEXTS, st.lists(st.integers(0, 30), max_size=6))
def test_pieces_come_to_the_same_as_the_whole(text: str, cuts: list[int]) -> None:
    splitter, reasoning, answer = ReasoningSplitter(), "", ""
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    pieces = [splitter.feed(text[a:b]) for a, b in zip(places, places[1:], strict=False)]
    for one, other in [*pieces, splitter.finish()]:
        reasoning, answer = reasoning + one, answer + other
    assert (reasoning, answer) == split_completion(text)


@given(st.text(alphabet="ab \n"), st.text(alphabet="ab \n"))
def test_it_agrees_with_the_reading_of_whole_completions(reasoning: str, answer: str) -> None:
    text = f"<think>{reasoning}</think>\n<answer>{answer}</answer>"
    assert split_completion(text) == split_reasoning(text)
