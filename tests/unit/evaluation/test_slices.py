from collections.abc import Callable

import polars as pl
import pytest

from residency.platform.records import Item
from residency.training.evaluation.intervals import wilson_interval
from residency.training.evaluation.slices import slice_rows, value_text

MakeTable = Callable[..., pl.DataFrame]
MakeItem = Callable[..., Item]


def test_slices_count_each_value_and_keep_the_labels(make_table: MakeTable, make_item: MakeItem) -> None:
    items = [make_item(n, metadata={"modality": "CT" if n < 20 else "MRI"}) for n in range(32)]
    rows = slice_rows(make_table([n % 4 == 0 for n in range(32)]), items, checkpoint="rl")
    assert [(row["slice"], row["value"], row["n"], row["correct"]) for row in rows] == [
        ("modality", "CT", 20, 5),
        ("modality", "MRI", 12, 3),
    ]
    assert rows[0]["checkpoint"] == "rl"
    assert rows[0]["accuracy"] == 0.25
    assert tuple(rows[0]["ci95"]) == pytest.approx(wilson_interval(5, 20))


def test_values_with_few_questions_stand_together_and_are_named(make_table: MakeTable, make_item: MakeItem) -> None:
    organs = ["lung"] * 10 + ["liver"] * 9 + ["brain"] * 2
    items = [make_item(n, metadata={"organ": organ}) for n, organ in enumerate(organs)]
    rows = slice_rows(make_table([True] * 21), items)
    assert [(row["value"], row["questions"], row["pooled"]) for row in rows] == [
        ("lung", 10, []),
        ("other (<10)", 11, ["brain", "liver"]),
    ]


def test_several_samples_are_no_more_questions(make_table: MakeTable, make_item: MakeItem) -> None:
    items = [make_item(n, metadata={"task": "a" if n < 5 else "b"}) for n in range(20)]
    table = pl.concat([make_table([True] * 20, sample_index=sample) for sample in range(3)])
    assert [(row["value"], row["questions"], row["n"]) for row in slice_rows(table, items)] == [
        ("b", 15, 45),
        ("other (<10)", 5, 15),
    ]


def test_what_no_item_states_is_no_slice(make_table: MakeTable, make_item: MakeItem) -> None:
    items = [make_item(n, metadata={"language": "en"}) for n in range(12)]
    assert slice_rows(make_table([True] * 12), items) == []


def test_items_that_do_not_state_it_stand_last(make_table: MakeTable, make_item: MakeItem) -> None:
    items = [make_item(n, metadata={} if n < 15 else {"organ": "lung"}) for n in range(27)]
    rows = slice_rows(make_table([True] * 27), items)
    assert [(row["value"], row["n"]) for row in rows] == [("lung", 12), ("not stated", 15)]


def test_abstained_is_inside_and_errors_are_outside(make_table: MakeTable, make_item: MakeItem) -> None:
    items = [make_item(n, metadata={"organ": "lung" if n < 10 else "skin"}) for n in range(20)]
    table = make_table([True] * 20).with_columns(
        status=pl.when(pl.col("item_id") == "q0")
        .then(pl.lit("abstained"))
        .when(pl.col("item_id").str.slice(1).cast(pl.Int32) >= 10)
        .then(pl.lit("error"))
        .otherwise(pl.lit("scored"))
    )
    lung, skin = slice_rows(table, items)
    assert (lung["n"], lung["correct"], lung["abstained"], lung["errors"]) == (10, 9, 1, 0)
    assert (skin["n"], skin["accuracy"], skin["ci95"], skin["errors"]) == (0, None, None, 10)


def test_values_as_text() -> None:
    assert value_text(["liver", "lung"]) == value_text(["lung", "liver"]) == "liver + lung"
    assert (value_text(None), value_text(" "), value_text([]), value_text(0)) == ("not stated",) * 3 + ("0",)
