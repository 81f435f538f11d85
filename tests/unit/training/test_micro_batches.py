import random

import pytest

from residency.platform.errors import DataError
from residency.training.micro_batches import plan_micro_batches


def test_two_ranks_by_hand() -> None:
    # Longest first: 10, 9 | 5, 4 | 3, 2. A micro-batch of 20 holds two tens, four fives; two bins cannot hold all six
    # rows at less than 20 tokens with padding, so (10, 9) and (5, 4, 3, 2).
    assert plan_micro_batches([3, 10, 5, 2, 9, 4], num_ranks=2, max_tokens=20) == (((1, 4),), ((2, 5, 0, 3),))


def test_every_row_once_equal_rounds_and_within_bounds() -> None:
    generator = random.Random(0)
    for _ in range(200):
        lengths = [generator.randint(2, 60) for _ in range(generator.randint(1, 40))]
        num_ranks, max_tokens = generator.randint(1, 4), generator.randint(60, 300)
        plan = plan_micro_batches(lengths, num_ranks, max_tokens)
        assert len(plan) == num_ranks
        assert len({len(rounds) for rounds in plan}) == 1
        bins = [rows for rounds in plan for rows in rounds]
        assert sorted(row for rows in bins for row in rows) == list(range(len(lengths)))
        assert all(max(lengths[row] for row in rows) * len(rows) <= max_tokens for rows in bins if rows)


def test_fewer_rows_than_ranks_leave_an_empty_micro_batch() -> None:
    assert plan_micro_batches([5], num_ranks=2, max_tokens=10) == (((0,),), ((),))


def test_work_is_levelled_even_where_one_rank_could_take_all() -> None:
    plan = plan_micro_batches([10] * 32, num_ranks=2, max_tokens=8192)
    assert [len(rounds[0]) for rounds in plan] == [16, 16]


def test_only_the_rows_that_are_asked_for() -> None:
    assert plan_micro_batches([9, 9, 9, 9], num_ranks=1, max_tokens=100, rows=[1, 3]) == (((1, 3),),)


def test_a_row_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(DataError, match="row 1 has 11 tokens"):
        plan_micro_batches([5, 11], num_ranks=1, max_tokens=10)
