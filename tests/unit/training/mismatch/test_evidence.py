"""Statistics of a step's differences, by hand."""

import json

import numpy as np
import pytest

from residency.training.mismatch.evidence import difference, gather_evidence, mean_difference, spread
from residency.training.mismatch.sampled_row import SampledRow, ScoredTokens, fresh_rows


def row(name: str, logprobs: list[float], media: tuple[str, ...] = (), version: int = 5) -> SampledRow:
    tokens = ScoredTokens(prompt_ids=(1, 2), token_ids=tuple(range(len(logprobs))), media=media)
    return SampledRow(
        id=name, sampled=tokens, sampler_logprobs=np.array(logprobs), trained=tokens,
        trained_logprobs=np.array(logprobs), text="", prompt=None, oldest_version=version, newest_version=version,
    )  # fmt: skip


def test_spread_by_hand() -> None:
    found = spread(np.array([1.0, -3.0, 0.0, 0.0]))
    assert (found.num_tokens, found.mean, found.signed, found.largest) == (4, 1.0, -0.5, 3.0)
    assert found.quantiles == pytest.approx((0.5, 2.4, 2.94))
    assert spread(np.empty(0)).mean == 0


def test_split_by_image_place_probability_and_version() -> None:
    # Row a with an image: off by 1, 2, 3 at probabilities 0.05, 0.2 and 0.95. Row b, of older weights, is exact.
    chances = [0.05, 0.2, 0.95]
    a, b = row("a", list(np.log(chances)), ("x",)), row("b", [-1.0, -1.0, -1.0], version=4)
    found = gather_evidence([a, b], [a.trained_logprobs + [1, 2, 3], b.trained_logprobs])
    assert found.whole.mean == pytest.approx(1.0)
    assert (found.with_image.mean, found.without_image.mean) == (pytest.approx(2.0), 0.0)
    assert [third.mean for third in found.by_third] == pytest.approx([0.5, 1.0, 1.5])
    assert found.grows
    assert [part.num_tokens for part in found.by_probability] == [1, 4, 0, 1]
    assert [part.mean for part in found.by_probability] == pytest.approx([1.0, 0.5, 0.0, 3.0])
    assert {version: part.mean for version, part in found.by_version.items()} == {4: 0.0, 5: pytest.approx(2.0)}
    json.dumps(found.details(), allow_nan=False)


def test_what_one_of_the_two_calls_impossible_counts_and_stays_a_number() -> None:
    assert difference(np.array([-np.inf, np.nan, -1.0]), np.array([-1.0, -1.0, -1.5])).tolist() == [-100, -99, 0.5]
    assert mean_difference([np.array([-np.inf])], [np.array([-1.0])]) == 100
    assert difference(np.array([-1.0, -2.0]), np.array([-1.0])).tolist() == [0.0], "as far as both go"


def test_a_row_with_one_older_token_is_not_fresh() -> None:
    rows = [row("a", [-1.0]), row("b", [-1.0], version=4)]
    assert [each.id for each in fresh_rows(rows, 5)] == ["a"]
