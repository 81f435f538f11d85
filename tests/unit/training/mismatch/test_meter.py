"""The meter's budget and its verdict, by hand."""

import math
import pickle
from dataclasses import dataclass

import pytest

from residency.platform.errors import RecipeError
from residency.training.mismatch.meter import MismatchError, budget, check_mismatch, fresh_mismatch


@dataclass(frozen=True)
class Sums:
    num_fresh_tokens: int
    fresh_mismatch_sum: float
    fresh_mismatch_max: float


def test_the_budget_is_the_recipes_or_the_dtypes() -> None:
    assert budget(None, "float32") == 1e-5
    assert budget(None, "bfloat16") == 5e-2
    assert budget(0.0, "float32") == 0.0
    assert budget(3e-3, "bfloat16") == 3e-3
    with pytest.raises(RecipeError, match="float16 has no usual mismatch"):
        budget(None, "float16")


def test_the_mean_decides_and_not_the_largest() -> None:
    assert check_mismatch(Sums(1000, 0.01, 0.009), 1e-5, 4) is None, "exactly on it"
    assert fresh_mismatch(Sums(1000, 0.01, 0.009)) == pytest.approx(1e-5)
    error = check_mismatch(Sums(1000, 0.02, 0.009), 1e-5, 4)
    assert isinstance(error, MismatchError)
    assert "step 4" in error.seen
    assert "1000 tokens" in error.seen
    assert "2.00e-05 on average and 9.00e-03 at most" in error.seen
    assert error.wanted == "at most 1e-05"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_what_is_not_a_number_is_beyond_every_budget() -> None:
    for total in (math.nan, math.inf):
        error = check_mismatch(Sums(10, total, total), 5e-2, 0)
        assert error is not None
        assert "not finite" in error.seen


def test_a_step_of_older_weights_alone_measures_nothing() -> None:
    assert fresh_mismatch(Sums(0, 0.0, 0.0)) is None
    assert check_mismatch(Sums(0, 0.0, 0.0), 1e-5, 4) is None
