"""One micro-batch as tensors: rows padded on the right, and where in them the completion tokens stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from residency.platform.errors import DataError
from residency.training.image_features import ImageFeatures, together
from residency.training.pixel_cache import PixelCache
from residency.training.training_batch import BatchReader


@dataclass(frozen=True, kw_only=True, slots=True)
class Dummy:
    """A picture for micro-batches without one, and its tokens."""

    features: ImageFeatures
    token_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTokens:
    """What collation needs to know of a model; one that sees no pictures has no ``dummy``."""

    pad: int
    image: tuple[int, ...] = ()  # tokens of type 1
    dummy: Dummy | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """N rows padded to L; T completion tokens, in row order.

    ``positions_T`` index the flattened [N·L] positions whose hidden state *predicts* each completion token.
    ``images`` are the tensors of the pictures in the order of their placeholders, by the processor's names; a
    text-only model has none.
    """

    input_ids: torch.Tensor  # int64 [N, L]
    attention_mask: torch.Tensor  # int64 [N, L]
    mm_token_type_ids: torch.Tensor  # int32 [N, L], 1 at image tokens
    images: Mapping[str, torch.Tensor]
    positions_T: torch.Tensor  # int64
    targets_T: torch.Tensor  # int64
    weights_T: torch.Tensor
    advantages_T: torch.Tensor
    sampler_logprobs_T: torch.Tensor  # [T], or [0] for SFT
    sampled_steps_T: torch.Tensor  # int64, of the oldest weights behind each token's row; −1 where nothing was sampled
    num_input_tokens: int

    def to(self, device: torch.device) -> "MicroBatch":
        tensors = {name: getattr(self, name) for name in self.__dataclass_fields__}
        moved: dict[str, Any] = {
            name: tensor.to(device) for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)
        }
        return replace(self, **moved, images={name: tensor.to(device) for name, tensor in self.images.items()})


def collate(reader: BatchReader, rows: Sequence[int], pixels: PixelCache, tokens: ModelTokens) -> MicroBatch:
    """Rows → one micro-batch. Without any image a row of weight zero with a dummy image is added.

    Under ZeRO-3 every rank must run the same modules: a rank that skipped the vision tower would leave the others
    waiting in an all-gather. The added row also stands in where a rank has no rows at all; then a text-only model gets
    one too. Raises DataError for a row with images where the model sees none.
    """
    parts = [reader.row(row) for row in rows]
    dummy = tokens.dummy
    if dummy is None and any(part.media for part in parts):
        raise DataError(
            "a batch with images for a text-only model",
            "a model that sees images, or items without them",
            "take a multimodal model for the student, or leave these items out of the mixture",
        )
    images = pixels.get([name for part in parts for name in part.media])
    sequences = [part.tokens for part in parts]
    spans = [(part.prompt_length, len(part.tokens)) for part in parts]
    weights = [part.weights for part in parts]
    advantages = [part.advantage for part in parts]
    logprobs = [part.logprobs for part in parts]
    sampled = [part.sampled_step for part in parts]
    if not images and (dummy is not None or not parts):
        images = [dummy.features] if dummy is not None else []
        stand_in = dummy.token_ids if dummy is not None else (tokens.pad,)
        sequences.append(np.array([*stand_in, tokens.pad], np.int32))
        spans.append((len(stand_in), len(stand_in) + 1))
        weights.append(np.zeros(1, np.float32))
        advantages.append(0.0)
        sampled.append(-1)
        if not parts or len(parts[0].logprobs):
            logprobs.append(np.zeros(1, np.float32))
    longest = max(len(sequence) for sequence in sequences)
    ids = np.full((len(sequences), longest), tokens.pad, np.int64)
    mask = np.zeros((len(sequences), longest), np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    positions = np.concatenate(
        [np.arange(row * longest + start - 1, row * longest + end - 1) for row, (start, end) in enumerate(spans)]
    )
    counts = [end - start for start, end in spans]
    input_ids, attention_mask = torch.from_numpy(ids), torch.from_numpy(mask)
    positions_T, images_T = torch.from_numpy(positions), torch.tensor(tokens.image, dtype=torch.long)
    return MicroBatch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        mm_token_type_ids=(torch.isin(input_ids, images_T) & attention_mask.bool()).int(),
        images=together(images),
        positions_T=positions_T,
        targets_T=input_ids.view(-1)[positions_T + 1],
        weights_T=torch.from_numpy(np.concatenate(weights).astype(np.float32)),
        advantages_T=torch.from_numpy(np.repeat(np.array(advantages, np.float32), counts)),
        sampled_steps_T=torch.from_numpy(np.repeat(np.array(sampled, np.int64), counts)),
        sampler_logprobs_T=torch.from_numpy(np.concatenate(logprobs).astype(np.float32)),
        num_input_tokens=sum(len(part.tokens) for part in parts),
    )
