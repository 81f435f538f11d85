"""What a person reads on the terminal: trouble at once, tables whole."""

import io
from typing import Any

import pytest
from rich.console import Console

from residency.platform.cli.screen import Screen, comparison_table, evaluation_tables


def said_by(kind: str, **details: Any) -> str:
    screen = Screen()
    screen.console = Console(file=io.StringIO(), width=200)
    screen.tell_trouble(kind, details)
    return screen.console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_lost_worker_is_told_with_its_cause_and_what_becomes_of_its_work() -> None:
    text = said_by("worker_lost", worker="verifier-3", cause="killed with SIGKILL [9]", requests_rerouted=2)
    assert text == "! verifier-3 was lost: killed with SIGKILL [9] (2 requests go elsewhere)\n"


def test_a_joiner_on_the_checkpoint_is_told_and_a_plain_join_is_not() -> None:
    assert "generator-2: the publisher died" in said_by(
        "joined_from_checkpoint", generator="generator-2", cause="the publisher died"
    )
    assert said_by("worker_joined", worker="verifier-3") == ""


def test_a_counter_that_goes_on_tells_what_is_done_and_what_it_did_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residency.platform.cli.screen.PLAIN_SECONDS", 0.0)
    screen = Screen()
    screen.console = Console(file=io.StringIO(), width=200)
    with screen.steps("reinforcement learning", 48, "steps") as counter:
        counter.stand_at(8)  # of an earlier attempt
        counter.advance(1)
        counter.advance(1)
        counter.stand_at(9)  # the learner was lost: its tenth step is done again
        counter.advance(39)
    text = screen.console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert [line.split()[2] for line in text.splitlines()] == ["9/48", "10/48", "48/48", "48"]
    assert "48 steps, 41 carried out in 0 s" in text


def test_the_final_tables_fit_into_80_columns() -> None:
    row = {
        "checkpoint": "sft_continued", "prompt_mode": "think", "decoding": "sampled", "image": "true", "seed": None,
        "n": 12240, "accuracy": 0.784, "ci95": [0.758, 0.807], "valid_format": 1.0, "accuracy_given_valid": 0.812,
        "dataset": "starter", "profile": "strict-2", "abstained": 1204, "errors": 0,
        "majority": 0.447, "chance": 0.438, "a": "rl", "b": "sft_continued", "questions": 3060, "clusters": 87,
        "difference": -0.006,
    }  # fmt: skip
    other = row | {"profile": "medevalkit-1", "accuracy": 0.712}
    for table in (*evaluation_tables([row, other]), comparison_table([row])):
        console = Console(file=io.StringIO(), width=80)
        console.print(table)
        text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
        assert "…" not in text.replace(" … ", "")
        assert ("-0.6" in text) or {"78.4", "71.2", "strict-2", "medevalkit-1"} <= set(text.split())
