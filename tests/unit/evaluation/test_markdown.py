from typing import Any

from residency.training.evaluation.markdown import interval, markdown_comparisons, markdown_table, points

ROW: dict[str, Any] = {
    "checkpoint": "rl", "dataset": "a|b", "seed": None, "prompt_mode": "think", "decoding": "greedy", "image": "true",
    "profile": "strict-1", "n": 1000, "correct": 655, "accuracy": 0.655, "ci95": [0.625, 0.6838], "chance": 0.25,
    "majority": 0.378, "abstained": 12, "errors": 3,
}  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]


def test_every_number_has_its_company() -> None:
    text = markdown_table([ROW, ROW | {"checkpoint": "sft", "accuracy": 0.5}])
    caption, _, header, rule, first, second = text.splitlines()
    assert caption.startswith("seed: pooled; prompt: think; decoding: greedy; image: true; profile: strict-1. ")
    assert cells(header) == [
        "dataset", "checkpoint", "n", "right", "accuracy, %", "95 % interval", "chance, %", "majority, %", "abstained",
        "errors",
    ]  # fmt: skip
    assert cells(first) == ["a¦b", "rl", "1,000", "655", "65.5", "62.5 to 68.4", "25.0", "37.8", "12", "3"]
    assert cells(second)[1:5] == ["sft", "1,000", "655", "50.0"]
    assert {len(line) for line in (header, rule, first, second)} == {len(header)}


def test_labels_that_differ_become_columns() -> None:
    text = markdown_table([ROW, ROW | {"image": "blank", "profile": "medevalkit-1"}])
    assert text.startswith("seed: pooled; prompt: think; decoding: greedy. ")
    header, _, first, second = text.splitlines()[2:]
    assert cells(header)[2:4] == ["image", "profile"]
    assert (cells(first)[2:4], cells(second)[2:4]) == (["true", "strict-1"], ["blank", "medevalkit-1"])


def test_comparisons_say_what_they_are_in_questions() -> None:
    row = {"a": "rl", "b": "sft", "dataset": "mmmu-med", "seed": 0, "prompt_mode": "think", "decoding": "greedy"}
    row |= {"image": "true", "difference": 1 / 150, "ci95": [-0.02, 0.04], "questions": 150, "mcnemar_p": 1.0}
    text = markdown_comparisons([row | {"gain": "The whole difference is one question of 150."}])
    assert cells(text.splitlines()[-1]) == [
        "mmmu-med", "rl", "sft", "+0.7", "−2.0 to +4.0", "150", "1", "The whole difference is one question of 150.",
    ]  # fmt: skip
    assert cells(markdown_comparisons([row]).splitlines()[-1])[-1] == "–"  # written before gains were


def test_nothing_is_said_to_be_nothing() -> None:
    assert markdown_table([]) == "No evaluation row.\n"
    assert markdown_comparisons([]) == "No comparison.\n"
    assert (points(None), interval(None), points(-0.0051, sign=True)) == ("–", "–", "−0.5")
