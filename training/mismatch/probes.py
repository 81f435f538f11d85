"""What a diagnosis may ask for: a few rows scored in other ways, a prompt rendered, a text encoded. Free of engines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from residency.training.mismatch.evidence import mean_difference
from residency.training.mismatch.sampled_row import SampledRow, ScoredTokens
from residency.training.weights_echo import WeightsEcho

OWN_IMAGES = "own"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """One way to score: as the trainer does, but for what is changed.

    ``weights`` and ``images`` (the image processing) go by labels that the scorer knows.
    """

    weights: str
    dtype: str = "float32"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    images: str = OWN_IMAGES


# Logprob of each completion token, a float array a row.
Score = Callable[[Sequence[ScoredTokens], Scoring], list[np.ndarray]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Probes:
    """``trained_as``: the way in which the trainer scored the step. The rest is what else may have been.

    ``render``: a row's prompt as the trainer's own template and processor make it, None where that cannot be told;
    ``encode``: the ids of a text. ``older_weights``: labels of earlier weights, newest first. ``image_ways``: labels of
    other image processings, the generators' own first. ``digests``: of the buckets that the learner published last,
    ``echoes``: what the generators answered to it.
    """

    score: Score
    trained_as: Scoring
    render: Callable[[SampledRow], tuple[int, ...] | None]
    encode: Callable[[str], tuple[int, ...]]
    image_token: int | None
    learner_version: int  # packed
    older_weights: tuple[str, ...] = ()
    image_ways: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("bfloat16", "float16", "float32")
    digests: tuple[str, ...] = ()
    echoes: tuple[WeightsEcho, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """The few rows that probes are tried on: those that differ most. ``observed``: their mean |difference| (nats)."""

    rows: tuple[SampledRow, ...]
    probes: Probes
    observed: float
    budget: float

    def scored(self, **changed: object) -> list[np.ndarray]:
        """Logprobs of what was trained on, scored as the trainer does but for what is changed."""
        how = replace(self.probes.trained_as, **changed)  # pyright: ignore[reportArgumentType] (fields of Scoring)
        return self.probes.score([row.trained for row in self.rows], how)

    def left(self, **changed: object) -> float:
        """Mean |difference| that is left when the trainer scores in another way."""
        return mean_difference(self.scored(**changed), [row.trained_logprobs for row in self.rows])

    def left_with(self, given: Sequence[tuple[ScoredTokens, np.ndarray]]) -> float:
        """The same when the trainer is given other tokens; with each row's logprobs of the sampler."""
        ours = self.probes.score([tokens for tokens, _ in given], self.probes.trained_as)
        return mean_difference(ours, [logprobs for _, logprobs in given])

    def explained(self, left: float) -> float:
        """Share of the mismatch that is gone."""
        return max(0.0, 1 - left / self.observed)
