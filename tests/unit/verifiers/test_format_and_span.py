import pytest

from residency.platform.records import PromptMode
from residency.platform.verifiers.answer_span import answer_span
from residency.platform.verifiers.format_rule import format_fault

THINK, DIRECT = PromptMode.THINK, PromptMode.DIRECT


@pytest.mark.parametrize(
    "text",
    [
        "<think>grey</think><answer>mr</answer>",
        " <think> grey </think> \n <answer> mr </answer> \n",
        "< think > grey < / think > < answer > mr < / answer >",
        "<think>grey</think><answer>mr</answer><|im_end|>",
        "<think>a < b, <b>bold</b></think><answer>mr</answer>",
        "<think>grey</think> \\boxed{mr}",
        "<think>grey</think> So the answer is $\\boxed{\\text{mr}}$.",
    ],
)
def test_valid_think(text: str) -> None:
    assert format_fault(text, THINK) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no tags"),
        ("mr", "no tags"),
        ("<answer>mr</answer>", "instead of"),
        ("<think>grey</think>mr", "instead of"),
        ("<think>grey<answer>mr</answer>", "instead of"),
        ("<think>grey</think><answer>mr", "instead of"),
        ("<answer>mr</answer><think>grey</think>", "instead of"),
        ("<think>x</think><think>y</think><answer>mr</answer>", "instead of"),
        ("<think>x</think><answer>mr</answer><answer>mr</answer>", "instead of"),
        ("<think>x<answer>mr</answer></think>", "instead of"),
        ("so <think>x</think><answer>mr</answer>", "before"),
        ("<think>x</think> so <answer>mr</answer>", "between"),
        ("<think>x</think><answer>mr</answer> so", "after"),
        ("<think> </think><answer>mr</answer>", "empty think"),
        ("<think>x</think><answer> \n</answer>", "empty answer"),
        ("<think>x</think> \\boxed{mr} \\boxed{mr}", "exactly one"),
        ("<think>x</think> \\boxed{mr", "exactly one"),
        ("<think>x</think> \\boxed{ }", "empty"),
        ("<think>x</think> \\boxed{mr} or ct", "after"),  # nothing after
        ("so <think>x</think> \\boxed{mr}", "before"),
        ("\\boxed{mr}", "no tags"),
        ("<THINK>x</THINK><ANSWER>mr</ANSWER>", "no tags"),
    ],
)
def test_faults_of_think(text: str, fault: str) -> None:
    assert fault in (format_fault(text, THINK) or "")


def test_direct_wants_text_without_tags() -> None:
    assert format_fault(" mr \n", DIRECT) is None
    assert format_fault(" \n", DIRECT) == "empty answer"
    assert format_fault("it is \\boxed{mr}.", DIRECT) is None
    assert "exactly one" in (format_fault("\\boxed{mr} \\boxed{mr}", DIRECT) or "")
    assert "tag" in (format_fault("<answer>mr</answer>", DIRECT) or "")


@pytest.mark.parametrize(
    ("text", "mode", "span"),
    [
        ("<think>ct</think><answer> mr </answer>", THINK, "mr"),
        ("<answer>mr</answer>", THINK, "mr"),
        ("<think>ct</think> \\boxed{mr}", THINK, "mr"),
        ("\\boxed{\\text{mr}}", THINK, "\\text{mr}"),
        ("mr", DIRECT, "mr"),
        ("<|im_end|>", DIRECT, None),
        ("<answer>mr</answer>", DIRECT, "mr"),
        ("it is \\boxed{mr}.", DIRECT, "mr"),
        ("<think>ct</think> mr", DIRECT, "mr"),
        ("mr", THINK, None),
        ("", THINK, None),
        ("<think>the key is mr", DIRECT, None),
        ("<think>the key is mr", THINK, None),
        ("<think>\\boxed{mr}", THINK, None),
        ("<think><answer>mr</answer></think>", THINK, None),
        ("<think>x</think><answer>mr</answer><answer>ct</answer>", THINK, None),
        ("<think>x</think><answer>mr", THINK, None),
        ("<think>x</think><answer><answer>mr</answer></answer>", THINK, None),
        ("<think>x</think><answer><think>mr</think></answer>", THINK, None),
        ("<think>x</think><answer> </answer>", THINK, None),
        ("\\boxed{mr} \\boxed{ct}", THINK, None),
        ("\\boxed{mr} \\boxed{mr}", THINK, None),
        ("\\boxed{mr} no, ct", THINK, None),
        ("<think>x</think><answer>mr</answer> no, ct", THINK, None),
        ("<think>\\boxed{ct}</think> \\boxed{mr}", THINK, "mr"),
        ("\\boxed{mr", THINK, None),
    ],
)
def test_span(text: str, mode: PromptMode, span: str | None) -> None:
    assert answer_span(text, mode) == span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("The cell is large.\n\n**Final Answer:** a basophil.", "a basophil."),
        ("### Analysis\nIt is dark.\n\n### Final Answer\nfibroid", "fibroid"),
        ("A and C do not fit. The best answer is B.", "B."),
        ("先看形态。\n最终答案：嗜碱性粒细胞。", "嗜碱性粒细胞。"),
        # one marker, at the start: the whole text, since what follows may take it back
        ("Answer: B. But C is possible.", "Answer: B. But C is possible."),
        # two markers: nobody can say which is meant, so the rule of the kind sees both
        ("It is dark.\nAnswer: A\nAnswer: B", "It is dark.\nAnswer: A\nAnswer: B"),
        # further paragraphs behind it: the reasoning went on
        ("Dark.\nAnswer: A\n\nOn second thought, no.", "Dark.\nAnswer: A\n\nOn second thought, no."),
    ],
)
def test_a_direct_answer_that_reasons_first_is_read_behind_its_only_marker(text: str, span: str) -> None:
    assert answer_span(text, PromptMode.DIRECT) == span
    assert answer_span(text, PromptMode.THINK) is None
