from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest

from residency.training.evaluation.compare_runs import SittingKey, compare_runs

MakeTable = Callable[..., pl.DataFrame]
KEY = SittingKey(
    checkpoint="rl",
    dataset="vqa-rad",
    dataset_hash="abc",
    prompt_mode="think",
    decoding="greedy",
    image="true",
    profile="strict-1",
)


def test_the_same_sitting_is_compared(make_table: MakeTable) -> None:
    a, b = make_table([True] * 6 + [False] * 4), make_table([True] * 5 + [False] * 5)
    found = compare_runs({KEY: a}, {KEY: b}, a_name="runs/new", b_name="runs/old")
    (row,) = found.rows
    assert found.refused == ()
    assert (row["a"], row["b"], row["dataset"]) == ("rl of runs/new", "rl of runs/old", "vqa-rad")
    assert (row["checkpoint"], row["profile"], row["seed"]) == ("rl", "strict-1", 0)
    assert row["difference"] == pytest.approx(0.1)
    assert row["gain"] == "The whole difference is one question of 10."


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"dataset_hash": "def"}, "other questions: its vqa-rad has the content hash def, this one abc"),
        ({"profile": "strict-2"}, "another profile or version: strict-2 instead of strict-1"),
        ({"decoding": "sampled"}, "old has no such sitting"),
    ],
)
def test_other_sittings_are_refused_with_the_reason(
    make_table: MakeTable, changes: dict[str, str], wanted: str
) -> None:
    table = make_table([True, False])
    found = compare_runs({KEY: table}, {replace(KEY, **changes): table}, a_name="new", b_name="old")
    assert found.rows == ()
    assert len(found.refused) == 2  # what a has and b has not, and the other way round
    assert wanted in found.refused[0].reason


def test_missing_questions_are_refused(make_table: MakeTable) -> None:
    found = compare_runs({KEY: make_table([True] * 3)}, {KEY: make_table([True] * 2)}, a_name="new", b_name="old")
    assert found.rows == ()
    assert "1 questions that rl of old has not" in found.refused[0].reason


def test_other_seeds_are_averaged_and_it_is_said(make_table: MakeTable) -> None:
    a = pl.concat([make_table([True, right, False], seed=seed) for seed, right in ((0, True), (1, False))])
    b = make_table([False] * 3, seed=7)
    (row,) = compare_runs({KEY: a}, {KEY: b}, a_name="new", b_name="old").rows
    assert row["difference"] == pytest.approx(0.5)
    assert (row["questions"], row["seed"]) == (3, None)
    assert "other seeds on either side" in row["method"]


def test_equal_seeds_stay_paired(make_table: MakeTable) -> None:
    a = pl.concat([make_table([True, True, False], seed=seed) for seed in (0, 1)])
    (row,) = compare_runs({KEY: a}, {KEY: a}, a_name="new", b_name="old").rows
    assert (row["difference"], row["questions"]) == (0.0, 6)
    assert "2 seeds and clusters" in row["method"]
