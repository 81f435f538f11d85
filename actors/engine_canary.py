"""The canary as an engine is asked it: one request, and what vLLM made of it. Loads neither vLLM nor torch."""

from typing import Any, cast

from residency.actors.engine_requests import MediaShelf, Request, Sampled
from residency.platform.media_store import media_hash
from residency.platform.sampling import SamplingConfig
from residency.training.canary import NUM_TOKENS, PROMPT, SEED, TEMPERATURE, CanaryReading, canary_media, canary_png

CANARY_SAMPLING = SamplingConfig(temperature=TEMPERATURE, max_new_tokens=NUM_TOKENS)


def canary_shelf(sees: bool) -> MediaShelf:
    """Holds the canary's image, or nothing for a model without vision."""
    return MediaShelf(canary_media() if sees else None)


def canary_request(shelf: MediaShelf) -> Request:
    """With the canary's image where the shelf holds it: a model without vision has an empty one."""
    media = (media_hash(canary_png()),) if len(shelf) else ()
    return Request(item_id="canary", prompt=PROMPT, media=media, prompt_mode="direct", num_samples=1, seed=SEED)


def canary_reading(sampled: Sampled) -> CanaryReading | None:
    """None where vLLM refused it: too long for the engine's limits."""
    if sampled.output is None:
        return None
    completion = sampled.output.outputs[0]
    flat = cast(Any, completion.logprobs)  # FlatLogprobs: one list of floats
    return CanaryReading(
        version=sampled.version,
        media=sampled.request.media,
        prompt_token_ids=tuple(sampled.output.prompt_token_ids or ()),
        token_ids=tuple(completion.token_ids),
        logprobs=tuple(flat.logprobs),
    )
