import pytest

from residency.platform.reasoning import split_reasoning


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<think>a cell is left</think><answer>left</answer>", ("a cell is left", "left")),
        ("<think>a\nb</think>\n<answer> left </answer>", ("a\nb", "left")),
        ("left", ("", "left")),
        ("<think>it never ends", ("it never ends", "")),
        ("<think>open<answer>left", ("open", "left")),
        ("<think>x</think>left</answer>", ("x", "left")),
        ("<think>x</think><answer>left</answer><answer>right</answer>", ("x", "right")),
        ("", ("", "")),
    ],
)
def test_split_reasoning(text: str, wanted: tuple[str, str]) -> None:
    assert split_reasoning(text) == wanted
