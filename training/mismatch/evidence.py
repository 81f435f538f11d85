"""How sampler and trainer differ: how much, which way, and where. Pure statistics of one step's tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from residency.training.mismatch.sampled_row import SampledRow

QUANTILES = (0.5, 0.9, 0.99)
PROBABILITY_EDGES = (0.1, 0.5, 0.9)
LARGEST = 100.0  # nats; a token that is impossible to one of the two counts as this, so that means stay numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Trainer's minus sampler's logprob over some tokens (nats). All 0 where there are none."""

    num_tokens: int
    mean: float  # of the absolute difference
    signed: float  # mean of the difference itself
    quantiles: tuple[float, ...]  # of the absolute difference: median, 90 %, 99 %
    largest: float

    def details(self) -> dict[str, Any]:
        """For an event: numbers only."""
        named = {f"p{round(100 * level)}": value for level, value in zip(QUANTILES, self.quantiles, strict=True)}
        return {"tokens": self.num_tokens, "mean": self.mean, "signed": self.signed, **named, "max": self.largest}


def spread(differences_T: np.ndarray) -> Spread:
    """Of the differences of some tokens."""
    if not len(differences_T):
        return Spread(num_tokens=0, mean=0.0, signed=0.0, quantiles=(0.0,) * len(QUANTILES), largest=0.0)
    sizes_T = np.abs(differences_T)
    return Spread(
        num_tokens=len(differences_T),
        mean=float(sizes_T.mean()),
        signed=float(differences_T.mean()),
        quantiles=tuple(float(value) for value in np.quantile(sizes_T, QUANTILES)),
        largest=float(sizes_T.max()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """One step's differences, as a whole and by what could tell causes apart."""

    whole: Spread
    with_image: Spread
    without_image: Spread
    by_third: tuple[Spread, Spread, Spread]  # of the completion: begin, middle, end
    by_probability: tuple[Spread, ...]  # the sampler's, up to 0.1, 0.5, 0.9 and 1
    by_version: dict[int, Spread]  # of the row's oldest token, packed

    @property
    def grows(self) -> bool:
        """Whether it is larger at the end of the completion than at its beginning, by half."""
        return self.by_third[2].mean > 1.5 * self.by_third[0].mean

    def details(self) -> dict[str, Any]:
        """For an event of the run."""
        edges = (0.0, *PROBABILITY_EDGES, 1.0)
        return {
            "whole": self.whole.details(),
            "with_image": self.with_image.details(),
            "without_image": self.without_image.details(),
            "by_third": [part.details() for part in self.by_third],
            "by_probability": {
                f"{low:g}-{high:g}": part.details()
                for low, high, part in zip(edges, edges[1:], self.by_probability, strict=False)
            },
            "by_version": {str(version): part.details() for version, part in self.by_version.items()},
        }


def gather_evidence(rows: Sequence[SampledRow], trainer_logprobs: Sequence[np.ndarray]) -> Evidence:
    """From a step's rows and the trainer's logprobs of what it trained on, row by row.

    Where a row's completion was made anew, only as many tokens are compared as both have.
    """
    differences = [difference(ours, row.trained_logprobs) for row, ours in zip(rows, trainer_logprobs, strict=True)]
    places = [np.arange(len(part)) * 3 // max(1, len(part)) for part in differences]
    chances = [np.exp(row.trained_logprobs[: len(part)]) for row, part in zip(rows, differences, strict=True)]
    bins = [np.searchsorted(PROBABILITY_EDGES, part) for part in chances]
    images = [np.full(len(part), row.has_image) for row, part in zip(rows, differences, strict=True)]
    versions = [np.full(len(part), row.oldest_version) for row, part in zip(rows, differences, strict=True)]
    all_T, places_T, bins_T = joined(differences), joined(places), joined(bins)
    images_T, versions_T = joined(images).astype(bool), joined(versions)
    begin, middle, end = (spread(all_T[places_T == third]) for third in range(3))
    return Evidence(
        whole=spread(all_T),
        with_image=spread(all_T[images_T]),
        without_image=spread(all_T[~images_T]),
        by_third=(begin, middle, end),
        by_probability=tuple(spread(all_T[bins_T == which]) for which in range(len(PROBABILITY_EDGES) + 1)),
        by_version={int(version): spread(all_T[versions_T == version]) for version in np.unique(versions_T)},
    )


def difference(trainer: np.ndarray, sampler: np.ndarray) -> np.ndarray:
    """Trainer's − sampler's, token by token, as far as both go; at most ``LARGEST`` either way."""
    length = min(len(trainer), len(sampler))
    ours, theirs = (np.nan_to_num(part[:length].astype(np.float64), nan=-LARGEST) for part in (trainer, sampler))
    return np.clip(ours - theirs, -LARGEST, LARGEST)


def mean_difference(trainer: Iterable[np.ndarray], sampler: Iterable[np.ndarray]) -> float:
    """Mean |difference| over all tokens of some rows; 0 where there are none."""
    return spread(joined([difference(ours, theirs) for ours, theirs in zip(trainer, sampler, strict=True)])).mean


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One array of all; empty where there is none."""
    return np.concatenate(parts) if parts else np.empty(0)
