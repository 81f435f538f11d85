"""One micro-batch as tensors: rows padded on the right, and where in them the completion tokens stand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from residency.training.pixel_cache import PixelCache, Pixels
from residency.training.training_batch import BatchReader


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTokens:
    """Ids that collation needs, and the vision tower's geometry (for the dummy image)."""

    pad: int
    image: int
    patch_values: int  # values of one patch
    spatial_merge: int  # patches along an edge of one token


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """N rows padded to L; T completion tokens, in row order.

    ``positions_T`` index the flattened [N·L] positions whose hidden state *predicts* each completion token.
    """

    input_ids: torch.Tensor  # int64 [N, L]
    attention_mask: torch.Tensor  # int64 [N, L]
    mm_token_type_ids: torch.Tensor  # int32 [N, L], 1 at image tokens
    pixel_values: torch.Tensor  # [patches, values]
    image_grid_thw: torch.Tensor  # int64 [images, 3]
    positions_T: torch.Tensor  # int64
    targets_T: torch.Tensor  # int64
    weights_T: torch.Tensor
    advantages_T: torch.Tensor
    sampler_logprobs_T: torch.Tensor  # [T], or [0] for SFT
    num_input_tokens: int

    def to(self, device: torch.device) -> "MicroBatch":
        tensors = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "num_input_tokens"}
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items()}
        return replace(self, **moved)


def dummy_image(tokens: ModelTokens) -> Pixels:
    """A grey picture of one token, for micro-batches without images."""
    edge = tokens.spatial_merge
    return torch.zeros(edge * edge, tokens.patch_values), torch.tensor([1, edge, edge])


def collate(reader: BatchReader, rows: Sequence[int], pixels: PixelCache, tokens: ModelTokens) -> MicroBatch:
    """Rows → one micro-batch. Without any image a row of weight zero with a dummy image is added.

    Under ZeRO-3 every rank must run the same modules: a rank that skipped the vision tower would leave the others
    waiting in an all-gather. The added row also stands in where a rank has no rows at all.
    """
    parts = [reader.row(row) for row in rows]
    images = pixels.get([name for part in parts for name in part.media])
    sequences = [part.tokens for part in parts]
    spans = [(part.prompt_length, len(part.tokens)) for part in parts]
    weights = [part.weights for part in parts]
    advantages = [part.advantage for part in parts]
    logprobs = [part.logprobs for part in parts]
    if not images:
        images = [dummy_image(tokens)]
        sequences.append(np.array([tokens.image, tokens.pad], np.int32))
        spans.append((1, 2))
        weights.append(np.zeros(1, np.float32))
        advantages.append(0.0)
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
    positions_T = torch.from_numpy(positions)
    return MicroBatch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        mm_token_type_ids=((input_ids == tokens.image) & attention_mask.bool()).int(),
        pixel_values=torch.cat([values for values, _ in images]),
        image_grid_thw=torch.stack([grid for _, grid in images]),
        positions_T=positions_T,
        targets_T=input_ids.view(-1)[positions_T + 1],
        weights_T=torch.from_numpy(np.concatenate(weights).astype(np.float32)),
        advantages_T=torch.from_numpy(np.repeat(np.array(advantages, np.float32), counts)),
        sampler_logprobs_T=torch.from_numpy(np.concatenate(logprobs).astype(np.float32)),
        num_input_tokens=sum(len(part.tokens) for part in parts),
    )
