"""The learner's padded micro-batches against a plain transformers forward, one row at a time."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from PIL import Image

from residency.platform.errors import DataError
from residency.training.checkpoints import load_model
from residency.training.collation import MicroBatch, collate
from residency.training.losses import sft_loss
from residency.training.model_folder import media_token_ids
from residency.training.model_inputs import model_tokens
from residency.training.pixel_cache import PixelCache
from residency.training.token_scorer import TokenScorer
from residency.training.training_batch import BatchReader, make_batch


@pytest.fixture(scope="module")
def scorer(tiny_student_dir: Path) -> TokenScorer:
    return TokenScorer(load_model(tiny_student_dir, "float32"), media_token_ids(tiny_student_dir))


def rows(processor: Any, media: pa.Table) -> pa.Table:
    """Two pictures, one picture, none: of different lengths, with rollouts' columns."""
    image, first = int(processor.image_token_id), media.column("hash").to_pylist()
    tokens = [[40, *[image] * 9, 41, *[image] * 9, 50, 60, 61], [40, *[image] * 9, 50, 51, 60], [40, 50, 60, 61, 62]]
    return make_batch(
        {
            "id": ["a", "b", "c"],
            "token_ids": tokens,
            "prompt_length": [21, 12, 2],
            "loss_weights": [[1.0] * 2, [1.0], [0.0, 1.0, 1.0]],
            "advantage": [1.0, -1.0, 0.5],
            "sampler_logprobs": [[-0.1, -0.2], [-0.3], [-0.4, -0.5, -0.6]],
            "media": [[first[1], first[0]], [first[2]], []],
        }
    )


def collated(scorer: TokenScorer, processor: Any, media: pa.Table, chosen: list[int]) -> MicroBatch:
    tokens = model_tokens(scorer.model.config, processor)
    return collate(BatchReader(rows(processor, media)), chosen, PixelCache(processor, media), tokens)


def test_logprobs_are_those_of_a_forward_of_each_row(
    scorer: TokenScorer, processor: Any, media: pa.Table, pictures: list[Image.Image]
) -> None:
    micro = collated(scorer, processor, media, [0, 1, 2])
    with torch.no_grad():
        logprobs, entropies = scorer(micro, 0.7)
    table = rows(processor, media).to_pylist()
    wanted: list[float] = []
    for row, images in zip(table, [[pictures[1], pictures[0]], [pictures[2]], []], strict=True):
        ids = torch.tensor([row["token_ids"]])
        inputs = processor.image_processor(images=images, return_tensors="pt") if images else {}
        with torch.no_grad():
            types = (ids == processor.image_token_id).int()
            logits = scorer.model(input_ids=ids, mm_token_type_ids=types, **inputs).logits[0]
        logits[:, scorer.get_buffer("banned")] = float("-inf")
        table_logprobs = torch.log_softmax(logits / 0.7, dim=-1)
        start = row["prompt_length"]
        wanted += [float(table_logprobs[at - 1, row["token_ids"][at]]) for at in range(start, ids.shape[1])]
    assert logprobs.tolist() == pytest.approx(wanted, abs=2e-5)
    assert torch.isfinite(entropies).all()
    assert micro.advantages_T.tolist() == [1.0, 1.0, -1.0, 0.5, 0.5, 0.5]
    assert micro.sampler_logprobs_T.tolist() == pytest.approx([-0.1, -0.2, -0.3, -0.4, -0.5, -0.6])
    assert micro.num_input_tokens == 23 + 13 + 5


@pytest.mark.parametrize("chosen", [[2], []])
def test_without_pictures_the_vision_tower_still_runs_and_changes_nothing(
    scorer: TokenScorer, processor: Any, media: pa.Table, chosen: list[int]
) -> None:
    micro = collated(scorer, processor, media, chosen)
    scorer.zero_grad()
    logprobs, _ = scorer(micro, 1.0)
    assert torch.isfinite(logprobs).all()
    sft_loss(logprobs, micro.weights_T, 2.0).backward()
    tower = [value for name, value in scorer.named_parameters() if "visual" in name]
    assert tower
    assert all(value.grad is not None and not value.grad.any() for value in tower), "ran, and learned nothing from it"
    language = [value.grad for name, value in scorer.named_parameters() if "layers" in name]
    assert any(grad is not None and grad.any() for grad in language) == bool(chosen)


def test_the_cache_forgets_the_oldest_and_answers_the_same(processor: Any, media: pa.Table) -> None:
    names = media.column("hash").to_pylist()
    whole = PixelCache(processor, media)
    one_picture = whole.get(names[:1])[0].num_bytes
    small = PixelCache(processor, media, max_bytes=one_picture)
    for name in [*names, *names]:
        got, wanted = small.get([name])[0], whole.get([name])[0]
        assert got.text == wanted.text == processor.image_token * 9
        assert all(torch.equal(got.tensors[key], tensor) for key, tensor in wanted.tensors.items())
        assert small.num_bytes <= one_picture
    assert [image.tensors["image_grid_thw"].tolist() for image in small.get(names[:2])] == [[[1, 6, 6]]] * 2
    with pytest.raises(DataError, match="not in the media table of 3 images"):
        small.get(["f" * 64])
