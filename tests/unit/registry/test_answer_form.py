"""The form of an answer in traffic."""

import pytest

from residency.platform.registry.answer_form import AnswerForm, answer_form, last_text

GOOD, MALFORMED, NOTHING = AnswerForm(False, False), AnswerForm(True, False), AnswerForm(True, True)
TAGS = "which side?\nThink inside <think> </think>, then answer inside <answer> </answer>."


@pytest.mark.parametrize(
    ("mode", "asked", "content", "reasoning", "finish", "form"),
    [
        ("raw", TAGS, "<think>it is round</think><answer>left</answer>", "", "stop", GOOD),
        ("raw", TAGS, "<think>it is round</think> <answer>left</answer>\n", "", "stop", GOOD),
        ("raw", TAGS, "left", "", "stop", MALFORMED),
        ("raw", TAGS, "<think>it is round</think>left", "", "stop", MALFORMED),
        ("raw", TAGS, "<think>it is round</think><answer>left</answer>", "", "length", MALFORMED),
        ("raw", TAGS, "<think>it is round and", "", "length", NOTHING),
        ("raw", TAGS, "<think>it is round</think><answer> </answer>", "", "stop", NOTHING),
        ("raw", "which side?", "left", "", "stop", GOOD),
        ("raw", "which side?", "left</answer>", "", "stop", MALFORMED),
        ("raw", "which side?", "", "", "stop", NOTHING),
        ("direct", "which side?", "left", "", "stop", GOOD),
        ("direct", "which side?", "<answer>left</answer>", "", "stop", MALFORMED),
        ("think", TAGS, "left", "it is round", "stop", GOOD),
        ("think", TAGS, "left", "", "stop", MALFORMED),
        ("think", TAGS, "", "it is round and", "length", NOTHING),
        ("structured", "", '{"answer": "left"}', "", "stop", GOOD),
    ],
)
def test_forms(mode: str, asked: str, content: str, reasoning: str, finish: str, form: AnswerForm) -> None:
    assert answer_form(mode, asked, content, reasoning, finish) == form


def test_the_last_text_of_a_request() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    assert last_text([{"content": "first"}, {"content": [picture, {"type": "text", "text": "which side?"}]}]) == (
        "\nwhich side?"
    )
    assert last_text([{"content": "which side?"}]) == "which side?"
    assert last_text([]) == ""
