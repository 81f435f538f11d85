"""The canary: one fixed prompt that an engine answers after each weight update, and the learner scores after it.

A digest proves that the bytes arrived; the canary proves that the engine computes with them. The engine samples a few
tokens by the same path as a rollout (template, image, bans, processed logprobs), the learner scores the same tokens
with its own forward pass on the same weights. Importing this loads no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from residency.platform.errors import WeightUpdateError
from residency.platform.media_store import MEDIA_SCHEMA, encode_png, media_hash
from residency.platform.records import PolicyVersion

if TYPE_CHECKING:  # it imports torch
    from residency.training.deepspeed_engine import DeepSpeedEngine

PROMPT = "What is seen?"
NUM_TOKENS = 8
TEMPERATURE = 1.0
SEED = 20250523
IMAGE_EDGE = 84  # pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryReading:
    """What an engine sampled for the canary prompt under ``version``: its own ids, and the logprobs of the sampled."""

    version: PolicyVersion
    media: tuple[str, ...]  # the canary's image, or none for a model without vision
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def question(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the learner's answer depends on, beside its weights."""
        return self.prompt_token_ids, self.token_ids


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryComparison:
    """The same tokens under the same weights, by a generator and by the learner (nats)."""

    generator: str
    reading: CanaryReading
    trainer_logprobs: tuple[float, ...]

    @property
    def difference(self) -> float:
        """Mean |sampler − trainer|; what is not a number stays one, so compare by ``within``."""
        return float(np.mean(np.abs(np.subtract(self.reading.logprobs, self.trainer_logprobs))))

    def within(self, budget: float) -> bool:
        return self.difference <= budget  # false for NaN


class CanaryError(WeightUpdateError):
    """Engines answer the canary otherwise than the learner; ``comparisons`` has both vectors of each."""

    def __init__(
        self, seen: str, wanted: str = "", remedy: str = "", comparisons: tuple[CanaryComparison, ...] = ()
    ) -> None:
        super().__init__(seen, wanted, remedy)
        self.args = (seen, wanted, remedy, comparisons)  # positional, so that it pickles
        self.comparisons = comparisons


def canary_error(comparisons: Sequence[CanaryComparison], budget: float) -> CanaryError:
    """Of those that are beyond the budget."""
    told = "; ".join(f"{each.generator} by {each.difference:.2e}" for each in comparisons)
    return CanaryError(
        f"the canary's mean logprob differs from the learner's under {comparisons[0].reading.version}: {told}",
        f"at most {budget:.0e} nats",
        "see both vectors in the event canary_differs; if that is what the dtype gives, raise rl.max_mismatch",
        tuple(comparisons),
    )


@lru_cache(maxsize=1)
def canary_png() -> bytes:
    """A picture of slopes and stripes, the same everywhere."""
    rows, columns = np.mgrid[0:IMAGE_EDGE, 0:IMAGE_EDGE]
    channels = (3 * rows, 3 * columns, 255 * ((rows + columns) // 7 % 2))
    return encode_png(Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)))


def canary_media() -> pa.Table:
    """The media table of the canary's one image."""
    return pa.Table.from_pylist([{"hash": media_hash(canary_png()), "png": canary_png()}], schema=MEDIA_SCHEMA)


def canary_batch(reading: CanaryReading) -> pa.Table:
    """The training batch of one row whose completion the learner is to score."""
    from residency.training.training_batch import make_batch

    columns: dict[str, Sequence[Any]] = {
        "id": ["canary"],
        "token_ids": [[*reading.prompt_token_ids, *reading.token_ids]],
        "prompt_length": [len(reading.prompt_token_ids)],
        "loss_weights": [[1.0] * len(reading.token_ids)],
        "advantage": [0.0],
        "sampler_logprobs": [list(reading.logprobs)],
        "media": [list(reading.media)],
    }
    return make_batch(columns)


def canary_logprobs(engine: "DeepSpeedEngine", reading: CanaryReading) -> tuple[float, ...]:
    """The learner's logprobs of the canary's tokens under its present weights; collective, like a training step."""
    import torch

    from residency.training.collation import collate
    from residency.training.pixel_cache import PixelCache
    from residency.training.training_batch import BatchReader

    pixels: Any = PixelCache(engine.processor, canary_media())
    micro = collate(BatchReader(canary_batch(reading)), [0], pixels, engine._policy.tokens).to(engine._device)
    engine._engine.eval()
    try:
        with torch.no_grad():
            logprobs_T, _ = engine._engine(micro, TEMPERATURE)
    finally:
        engine._engine.train()
    return tuple(logprobs_T[: len(reading.token_ids)].tolist())
