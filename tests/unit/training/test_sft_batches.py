"""Batches of SFT: every row once an epoch, any step by itself, and less padding where rows are grouped by length."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.training.sft_batches import batches, length_grouped_batches, padding_share

Draw = Callable[[list[int], int, int, int], Iterator[list[int]]]  # (lengths, batch size, seed, first)


def shuffled(lengths: list[int], batch_size: int, seed: int, first: int = 0) -> Iterator[list[int]]:
    return batches(len(lengths), batch_size, seed, first)


@pytest.mark.parametrize("draw", [shuffled, length_grouped_batches])
@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=40),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 3),
    first=st.integers(0, 30),
)
def test_every_row_once_an_epoch_and_every_step_by_itself(
    draw: Draw, lengths: list[int], batch_size: int, seed: int, first: int
) -> None:
    drawn = list(islice(draw(lengths, batch_size, seed, 0), first + 10))
    assert all(len(batch) == batch_size for batch in drawn)
    rows = [row for batch in drawn for row in batch]
    whole = len(rows) // len(lengths) * len(lengths)
    for start in range(0, whole, len(lengths)):
        assert sorted(rows[start : start + len(lengths)]) == list(range(len(lengths)))
    assert list(islice(draw(lengths, batch_size, seed, first), 10)) == drawn[first:]


@pytest.mark.parametrize("draw", [shuffled, length_grouped_batches])
def test_seeds_and_epochs_have_orders_of_their_own(draw: Draw) -> None:
    lengths = list(range(1, 385))
    epochs = list(islice(draw(lengths, 32, 0, 0), 24))
    assert epochs[:12] != epochs[12:]
    assert epochs[:12] != list(islice(draw(lengths, 32, 1, 0), 12))


def test_shuffled_batches_are_those_of_the_shipped_recipes() -> None:
    """Another order would change every published number."""
    assert list(islice(batches(10, 4, seed=1), 3)) == [[0, 4, 5, 3], [7, 9, 8, 2], [1, 6, 8, 7]]


def test_rows_of_like_length_share_a_batch_and_the_batches_come_in_any_order() -> None:
    lengths = [length for length in (10, 20, 30, 40, 50, 60, 70, 80) for _ in range(40)]
    epoch = list(islice(length_grouped_batches(lengths, 8, seed=0), 40))
    spans = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in epoch]
    assert max(spans) <= 20, "a megabatch of 80 rows holds about ten of each length"
    means = [sum(lengths[row] for row in batch) for batch in epoch]
    assert means != sorted(means)
    again = list(islice(length_grouped_batches(lengths, 8, seed=0), 40, 80))
    assert {frozenset(batch) for batch in again}.isdisjoint({frozenset(batch) for batch in epoch})


def test_padding_by_hand() -> None:
    assert padding_share([4, 2, 3], [[0, 1], [2]]) == pytest.approx(1 - 9 / 11)
    assert padding_share([5], [[]]) == 0.0


def test_grouping_takes_most_of_the_padding_away() -> None:
    lengths = np.random.default_rng(0).lognormal(4.5, 0.8, 4000).astype(int).clip(8, 2048).tolist()
    shares = [
        padding_share(lengths, list(islice(draw(lengths, 16, 0, 0), 250)))
        for draw in (shuffled, length_grouped_batches)
    ]
    assert shares[0] > 0.5
    assert shares[1] < 0.1
