"""The probes on checkpoint folders: the learner's own collation and model in one process, without ranks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from residency.platform.errors import RoleError
from residency.platform.prompts import IMAGE_MARKER
from residency.training.checkpoints import load_model, load_processor, tokenizer_of
from residency.training.collation import collate
from residency.training.encoding import expand_images, prompt_messages
from residency.training.logprobs import token_logprobs
from residency.training.micro_batches import plan_micro_batches
from residency.training.mismatch.probes import OWN_IMAGES, Probes, Scoring
from residency.training.mismatch.sampled_row import SampledRow, ScoredTokens
from residency.training.model_folder import media_token_ids
from residency.training.model_inputs import model_tokens
from residency.training.pixel_cache import PixelCache
from residency.training.token_scorer import TokenScorer
from residency.training.training_batch import BatchReader, make_batch
from residency.training.weights_echo import WeightsEcho

REVERSED_CHANNELS, REVERSED_ORDER = "channels reversed", "images in reverse order"
MICRO_BATCH_TOKENS = 8192


class PlainScorer:
    """Scores rows with the model of a folder, one model in memory at a time.

    ``folders``: label of weights → checkpoint folder, older ones newest first; ``own`` labels the trainer's.
    ``processors``: label of an image processing → folder whose preprocessor is used, beside the trainer's own and two
    that swap what is easily swapped. The hidden states of the last rows are kept: other temperatures and truncations
    cost no other forward.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        own: str,
        media: pa.Table,
        processors: Mapping[str, Path] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._folders, self._trust = dict(folders), trust_remote_code
        self._processor = load_processor(folders[own], trust_remote_code)
        self._pixels = {OWN_IMAGES: PixelCache(self._processor, media)}
        if hasattr(self._processor, "image_processor"):  # a text-only model has none
            folders_of = processors or {}
            self._pixels |= {
                label: PixelCache(load_processor(folders_of[label], trust_remote_code), media) for label in folders_of
            }
            self._pixels |= {
                REVERSED_CHANNELS: SwappedPixels(self._processor, media),
                REVERSED_ORDER: self._pixels[OWN_IMAGES],
            }
        self._image_ways = tuple(label for label in self._pixels if label != OWN_IMAGES)
        self._loaded: tuple[tuple[str, str], TokenScorer] | None = None
        self._hidden: tuple[Any, list[torch.Tensor]] | None = None

    def probes(
        self, how: Scoring, learner_version: int, digests: tuple[str, ...] = (), echoes: tuple[WeightsEcho, ...] = ()
    ) -> Probes:
        """All that a diagnosis may ask of it. ``how`` the trainer scored; folders but its own are of older weights."""
        return Probes(
            score=self,
            trained_as=how,
            render=self.render,
            encode=self.encode,
            image_token=getattr(self._processor, "image_token_id", None),
            learner_version=learner_version,
            older_weights=tuple(label for label in self._folders if label != how.weights),
            image_ways=self._image_ways,
            digests=digests,
            echoes=echoes,
        )

    def __call__(self, rows: Sequence[ScoredTokens], how: Scoring) -> list[np.ndarray]:
        """Logprob of each completion token, row by row. What top-k or top-p would leave out is kept if it was drawn."""
        scorer = self._model(how.weights, how.dtype)
        head, banned = scorer.model.get_output_embeddings(), scorer.get_buffer("banned")
        logprobs: list[np.ndarray] = []
        with torch.no_grad():
            for row, hidden_TH in zip(rows, self._hidden_states(rows, how), strict=True):
                targets_T = torch.tensor(row.token_ids)
                chosen_T, _ = token_logprobs(head(hidden_TH), targets_T, how.temperature, banned, how.top_k, how.top_p)
                logprobs.append(chosen_T.double().numpy())
        return logprobs

    def render(self, row: SampledRow) -> tuple[int, ...] | None:
        """The prompt by the trainer's own template; None where the text is not known, or holds markers for images."""
        if row.prompt is None or IMAGE_MARKER in row.prompt:
            return None
        media = row.trained.media
        chat = prompt_messages([{"role": "user", "content": row.prompt}], len(media))
        text: str = self._processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        if media:
            text = expand_images(text, self._processor, self._pixels[OWN_IMAGES].get(media))
        return self.encode(text)

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text."""
        return tuple(tokenizer_of(self._processor)(text, add_special_tokens=False)["input_ids"])

    def _model(self, weights: str, dtype: str) -> TokenScorer:
        if self._loaded is None or self._loaded[0] != (weights, dtype):
            if weights not in self._folders:
                raise RoleError(f"no weights {weights}", f"one of {', '.join(self._folders)}")
            self._loaded = self._hidden = None  # before the next takes its memory
            folder = self._folders[weights]
            scorer = TokenScorer(load_model(folder, dtype, self._trust), media_token_ids(folder))
            self._loaded = (weights, dtype), scorer.eval()
        return self._loaded[1]

    def _hidden_states(self, rows: Sequence[ScoredTokens], how: Scoring) -> list[torch.Tensor]:
        """What the head is given at each completion token [T, width], row by row."""
        key = (tuple(rows), how.weights, how.dtype, how.images)
        if self._hidden is None or self._hidden[0] != key:
            self._hidden = key, self._forward(rows, how)
        return self._hidden[1]

    def _forward(self, rows: Sequence[ScoredTokens], how: Scoring) -> list[torch.Tensor]:
        scorer = self._model(how.weights, how.dtype)
        reader = BatchReader(batch_of(rows, reverse_images=how.images == REVERSED_ORDER))
        tokens = model_tokens(scorer.model.config, self._processor)
        longest = max((int(length) for length in reader.lengths), default=1)
        given: list[torch.Tensor] = []
        hook = scorer.model.get_output_embeddings().register_forward_pre_hook(lambda _, args: given.append(args[0]))
        hidden: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for micro_rows in plan_micro_batches(reader.lengths.tolist(), 1, max(longest, MICRO_BATCH_TOKENS))[0]:
                scorer(collate(reader, micro_rows, self._pixels[how.images], tokens), how.temperature)
                counts = [len(rows[row].token_ids) for row in micro_rows]
                parts = torch.split(given.pop()[: sum(counts)], counts)  # a dummy image's row stands behind them
                hidden |= dict(zip(micro_rows, parts, strict=True))
        hook.remove()
        return [hidden[row] for row in range(len(rows))]


def batch_of(rows: Sequence[ScoredTokens], reverse_images: bool = False) -> pa.Table:
    """The rows as a training batch of no advantage."""
    return make_batch(
        {
            "id": [str(number) for number in range(len(rows))],
            "token_ids": [[*row.prompt_ids, *row.token_ids] for row in rows],
            "prompt_length": [len(row.prompt_ids) for row in rows],
            "loss_weights": [[1.0] * len(row.token_ids) for row in rows],
            "advantage": [0.0] * len(rows),
            "sampler_logprobs": [[0.0] * len(row.token_ids) for row in rows],
            "media": [list(row.media[::-1] if reverse_images else row.media) for row in rows],
        }
    )


class SwappedPixels(PixelCache):
    """Of pictures whose red and blue have changed places."""

    def _open(self, name: str) -> Image.Image:
        return Image.merge("RGB", super()._open(name).split()[::-1])
