from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from residency.platform.errors import DataError
from residency.training.evaluation.image_worth import image_worth_row

LABELS: dict[str, Any] = {"dataset": "starter", "seed": 0, "prompt_mode": "think", "decoding": "greedy"}


def test_worth_is_taken_on_the_questions_of_the_condition(make_table: Callable[..., pl.DataFrame]) -> None:
    true, blank = make_table([True] * 8 + [False] * 2), make_table([True] * 2 + [False] * 6)
    row = image_worth_row(true, blank, checkpoint="rl", condition="blank", **LABELS)
    assert (row["a"], row["b"], row["image"]) == ("rl", "rl@blank", "true")
    assert (row["questions"], row["left_out"], row["difference"]) == (8, 2, 0.75)
    assert row["ci95"][0] < 0.75 < row["ci95"][1]
    assert row["gain_in_questions"] == 6


def test_conditions_without_a_common_question_are_refused(make_table: Callable[..., pl.DataFrame]) -> None:
    true, other = make_table([True, False]), make_table([True, False], dataset="other")
    with pytest.raises(DataError, match="no question of rl was asked on true and on none images"):
        image_worth_row(true, other, checkpoint="rl", condition="none", **LABELS)
