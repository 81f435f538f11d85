"""What a simulated engine says: drawn from the seed and the request alone, as a Trace table. Pure: no clock, no Ray.

The same request gets the same tokens, logprobs and text from every engine of a seed, whatever its weights and its load.
The text is what a verifier can judge; it is not the decoding of the token ids, which are random numbers.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationError

from residency.actors.engine_requests import Request, Spans, trace_id, versions_by_token
from residency.platform.arrow_tables import SCHEMAS
from residency.platform.prompts import prompt_hash, render_completion
from residency.platform.recipe import Positive, Strict
from residency.platform.recipe_file import explain, read_yaml
from residency.platform.records import Item, PromptMode, Trace
from residency.platform.sampling import SamplingConfig
from residency.platform.verifiers.self_check import corrupted_answers

ASSUMPTIONS = Path(__file__).parent / "simulated_engine.yaml"
NORMAL_P99 = 2.3263478740408408  # 99th percentile of the standard normal distribution
MEAN_SURPRISE = 0.3  # nats: mean of the exponential that a token's negative logprob is drawn from
REASONING = "as the picture shows"

Seconds = Annotated[float, Field(ge=0)]


class SimulatedEngineConfig(Strict):
    """A simulated engine's speed and its answers; the shipped file says where its numbers come from."""

    median_tokens: Positive
    """Median length of an answer (tokens)."""
    p99_tokens: Positive
    """99th percentile of the length of an answer (tokens)."""
    step_seconds: Annotated[float, Field(gt=0)]
    """Time of a step that gives each running sequence a token (seconds)."""
    sequence_seconds: Seconds
    """What each running sequence adds to a step (seconds)."""
    prefill_steps: Annotated[int, Field(ge=0)]
    """Steps before a request's first token."""
    max_sequences: Positive
    """Sequences that run at once."""
    update_seconds: Seconds
    """Time of a weight update (seconds)."""
    right_probability: Annotated[float, Field(ge=0, le=1)]
    """Share of answers that are right."""
    prompt_characters_per_token: Positive
    """Characters of a prompt's token."""
    image_tokens: Positive
    """Tokens of an image in the prompt."""
    vocabulary: Positive
    """Token ids are below this."""
    first_token: Annotated[int, Field(ge=0)]
    """Token ids begin here: a real trainer may not be given those that stand for media."""

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm of an answer's length."""
        return math.log(max(self.p99_tokens / self.median_tokens, 1.0)) / NORMAL_P99


def load_simulated_config(path: Path = ASSUMPTIONS) -> SimulatedEngineConfig:
    """The configuration of a YAML file; raises RecipeError naming every mistake at once."""
    try:
        return SimulatedEngineConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        raise explain(error, str(path)) from error


@dataclass(frozen=True, slots=True)
class Draw:
    """One sampled sequence."""

    token_ids: np.ndarray  # int32
    logprobs: np.ndarray  # float32
    is_right: bool
    finish_reason: str  # stop | length | abort

    def cut(self, length: int) -> "Draw":
        """What there was of it when it was ended after so many tokens; itself where it was done by then."""
        if length >= len(self.token_ids):
            return self
        return Draw(self.token_ids[:length], self.logprobs[:length], False, "abort")


def draw(config: SimulatedEngineConfig, seed: int, request: Request, sampling: SamplingConfig) -> list[Draw]:
    """The request's samples; sample k depends on its own seed ``request.seed + k``, as with vLLM."""
    about = "\n".join((request.item_id, request.prompt, request.prompt_mode, *request.media, repr(sampling)))
    name = int.from_bytes(hashlib.blake2b(about.encode(), digest_size=8).digest())
    draws = []
    for index in range(request.num_samples):
        rng = np.random.default_rng([seed & 0xFFFFFFFF, name, (request.seed + index) & 0xFFFFFFFFFFFFFFFF])
        wanted = max(1, round(config.median_tokens * math.exp(config.sigma * rng.standard_normal())))
        length = min(wanted, sampling.max_new_tokens)
        draws.append(
            Draw(
                rng.integers(config.first_token, config.vocabulary, length, dtype=np.int32),
                -MEAN_SURPRISE * rng.standard_exponential(length, dtype=np.float32),
                bool(rng.random() < config.right_probability),
                "stop" if wanted <= length else "length",
            )
        )
    return draws


def prompt_tokens(config: SimulatedEngineConfig, request: Request) -> np.ndarray:
    """The prompt's ids (int32): images first, then one for every few characters."""
    length = len(request.media) * config.image_tokens + -(-len(request.prompt) // config.prompt_characters_per_token)
    name = int.from_bytes(hashlib.blake2b(request.prompt.encode(), digest_size=4).digest())
    spread = (np.arange(length, dtype=np.int64) * 2654435761 + name) % (config.vocabulary - config.first_token)
    return (config.first_token + spread).astype(np.int32)


def answer_texts(items: Mapping[str, Item], request: Request, draws: Sequence[Draw]) -> list[str]:
    """Completions that verifiers score as the draws say; broken off ones hold no answer.

    Of an item that is not known nothing can be said: the answer is ``unknown``.
    """
    mode, item = PromptMode(request.prompt_mode), items.get(request.item_id)
    right = "unknown" if item is None else item.answer
    wrong = "unknown" if item is None else next(iter(corrupted_answers(item)), "unknown")
    whole = {said: render_completion(said, mode, REASONING) for said in (right, wrong)}
    broken = f"<think>{REASONING}" if mode is PromptMode.THINK else ""
    return [whole[right if each.is_right else wrong] if each.finish_reason == "stop" else broken for each in draws]


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """One request with its samples, the weights that answered, and its seconds in the engine, to the last sample.

    ``spans`` and ``labels`` as of a sequence that is endless: a short sample may have ended under the first of them.
    """

    request: Request
    draws: list[Draw]
    texts: list[str]
    spans: Spans
    labels: Mapping[int, str]
    seconds: float


def completed_table(
    rows: Sequence[Completed], sampling: SamplingConfig, role: str, config: SimulatedEngineConfig
) -> pa.Table:
    """The Trace table, ordered by request, then by sample; lists are built from flat buffers."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMAS[Trace].names}
    for row in rows:
        request, hashed, prompt = row.request, prompt_hash(row.request.prompt), prompt_tokens(config, row.request)
        for index, each in enumerate(row.draws):
            length = len(each.token_ids)
            spans = [span for span in row.spans if span[0] < length] or row.spans[-1:]
            label = row.labels[spans[-1][1]]
            columns["id"].append(trace_id(request, sampling, label, spans, index))
            columns["item_id"].append(request.item_id)
            columns["role"].append(role)
            columns["model"].append(label)
            columns["prompt_mode"].append(request.prompt_mode)
            columns["prompt_hash"].append(hashed)
            columns["seed"].append(request.seed)
            columns["sample_index"].append(index)
            columns["prompt_token_ids"].append(prompt)
            columns["token_ids"].append(each.token_ids)
            columns["logprobs"].append(each.logprobs)
            columns["policy_versions"].append(versions_by_token(spans, length))
            columns["text"].append(row.texts[index])
            columns["finish_reason"].append(each.finish_reason)
            columns["seconds"].append(row.seconds)
    schema = SCHEMAS[Trace]
    return pa.Table.from_arrays([_column(columns[field.name], field.type) for field in schema], schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_list(kind) or not values:
        return pa.array(values, type=kind)
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(values), type=kind.value_type))
