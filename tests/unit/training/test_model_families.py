"""Each family of vision-language models through the learner's path, against a plain call of its own processor."""

import copy
import io
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from residency.platform.arrow_tables import to_table
from residency.platform.errors import ModelError
from residency.platform.media_store import MEDIA_SCHEMA, media_hash
from residency.platform.recipe import OptimizerConfig
from residency.platform.records import Example, Family, Target
from residency.training.checkpoints import load_model, load_processor, write_folder
from residency.training.collation import MicroBatch, collate
from residency.training.deepspeed_config import EngineSettings, in_vision_tower
from residency.training.encoding import encode_examples
from residency.training.folder_tensors import folder_shapes
from residency.training.losses import sft_loss
from residency.training.model_folder import media_token_ids
from residency.training.model_inputs import check_inputs, model_tokens
from residency.training.pixel_cache import PixelCache
from residency.training.policy_model import PolicyModel, whole_shape
from residency.training.token_scorer import TokenScorer
from residency.training.training_batch import BatchReader

FAMILIES = ("qwen2_5_vl", "llava", "internvl", "idefics3", "gemma3", "llava_onevision")
QUESTION, ANSWER = "which side is the lesion on?", "<answer>left</answer>"
# Of two tiles, of one, of another shape.
SHAPES = ((112, 56), (56, 56), (70, 100))
ROWS = ((0,), (1, 2), (), (2,))  # the pictures of each row


@dataclass(frozen=True, kw_only=True)
class Rig:
    """One family's folder, its model as the learner loads it, and rows with and without pictures."""

    folder: Path
    processor: Any
    policy: PolicyModel
    scorer: TokenScorer
    pictures: list[Image.Image]
    reader: BatchReader
    pixels: PixelCache

    def collated(self, rows: list[int]) -> MicroBatch:
        return collate(self.reader, rows, self.pixels, self.policy.tokens)

    def plain_logprobs(self, row: int) -> list[float]:
        """By one call of the processor on text and pictures, and one of the whole model on all it returns."""
        read, images = self.reader.row(row), [self.pictures[number] for number in ROWS[row]]
        chat = [{"role": "user", "content": [*[{"type": "image"}] * len(images), {"type": "text", "text": QUESTION}]}]
        prompt = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        inputs = dict(self.processor(text=[prompt + ANSWER + "<|im_end|>"], images=images or None, return_tensors="pt"))
        assert inputs["input_ids"][0].tolist() == read.tokens.tolist()
        with torch.no_grad():
            logits = self.policy.model(**inputs).logits[0, read.prompt_length - 1 : -1]
        logits[:, self.scorer.get_buffer("banned")] = float("-inf")
        targets = inputs["input_ids"][0, read.prompt_length :]
        return torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0].tolist()


def example(row: int, hashes: list[str]) -> Example:
    return Example(
        id=str(row),
        item_id=str(row),
        messages=({"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}),
        media=tuple(hashes[number] for number in ROWS[row]),
        target=Target.DIRECT,
        family=Family.MEDICAL_MULTIMODAL,
    )


@pytest.fixture(scope="module", params=FAMILIES)
def rig(request: pytest.FixtureRequest, family_folder: Callable[[str], Path], tiny_student_dir: Path) -> Rig:
    folder = tiny_student_dir if request.param == "qwen2_5_vl" else family_folder(request.param)
    random, pictures, media = np.random.default_rng(0), [], []
    for width, height in SHAPES:
        pictures.append(Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8)))
        buffer = io.BytesIO()
        pictures[-1].save(buffer, "PNG")
        media.append({"hash": media_hash(buffer.getvalue()), "png": buffer.getvalue()})
    table = pa.Table.from_pylist(media, schema=MEDIA_SCHEMA)
    processor = load_processor(folder)
    settings = EngineSettings(
        optimizer=OptimizerConfig(learning_rate=1e-3), total_steps=1, zero_stage=1, dtype="float32",
        micro_batch_tokens=512, activation_checkpointing=False, threads=1, seed=0, deadline_seconds=60.0,
    )  # fmt: skip
    policy = PolicyModel(folder, settings, processor, restored_from=None)
    hashes = [row["hash"] for row in media]
    examples = to_table([example(row, hashes) for row in range(len(ROWS))], Example)
    return Rig(
        folder=folder,
        processor=processor,
        policy=policy,
        scorer=TokenScorer(policy.model, media_token_ids(folder)),
        pictures=pictures,
        reader=BatchReader(encode_examples(examples, processor, table)),
        pixels=PixelCache(processor, table),
    )


def test_logprobs_are_those_of_the_processors_own_call(rig: Rig) -> None:
    with torch.no_grad():
        logprobs_T, _ = rig.scorer(rig.collated([0, 1, 2, 3]), 1.0)
    wanted = [value for row in range(len(ROWS)) for value in rig.plain_logprobs(row)]
    assert logprobs_T.tolist() == pytest.approx(wanted, abs=2e-5)


@pytest.mark.parametrize("rows", [[2], []])
def test_without_a_picture_the_tower_runs_and_learns_nothing(rig: Rig, rows: list[int]) -> None:
    rig.scorer.zero_grad()
    micro = rig.collated(rows)
    logprobs_T, _ = rig.scorer(micro, 1.0)
    sft_loss(logprobs_T, micro.weights_T, 1.0).backward()
    tower = [weight.grad for name, weight in rig.scorer.named_parameters() if in_vision_tower(name)]
    ran = [grad for grad in tower if grad is not None]
    assert ran
    assert not any(grad.any() for grad in ran)


def test_it_learns_and_its_checkpoint_is_what_was_published(rig: Rig, tmp_path: Path) -> None:
    scorer = copy.deepcopy(rig.scorer).train()
    optimizer, micro, losses = torch.optim.AdamW(scorer.parameters(), lr=3e-3), rig.collated([0, 1, 2, 3]), []
    for _ in range(10):
        logprobs_T, _ = scorer(micro, 1.0)
        loss = sft_loss(logprobs_T, micro.weights_T, 4.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    live = dict(scorer.model.named_parameters(remove_duplicate=False))
    published = {
        rig.policy.names[name]: tuple(whole_shape(weight).shape)
        for bucket in rig.policy.buckets(1_000_000, lambda _: nullcontext())
        for name, weight, _ in bucket
    }
    write_folder(tmp_path, scorer.model, rig.processor, {name: live[name].detach() for name in rig.policy.names})
    assert published == folder_shapes(tmp_path) == folder_shapes(rig.folder)
    again = TokenScorer(load_model(tmp_path, "float32"), media_token_ids(tmp_path))
    scorer.eval()
    with torch.no_grad():
        assert torch.equal(again.eval()(micro, 1.0)[0], scorer(micro, 1.0)[0])


def test_bfloat16_takes_the_same_pictures(rig: Rig) -> None:
    scorer = TokenScorer(load_model(rig.folder, "bfloat16"), media_token_ids(rig.folder))
    with torch.no_grad():
        logprobs_T, _ = scorer(rig.collated([0, 1, 2, 3]), 1.0)
        wanted_T, _ = rig.scorer(rig.collated([0, 1, 2, 3]), 1.0)
    assert float((logprobs_T - wanted_T).abs().mean()) < 0.1


def test_the_image_token_is_banned(rig: Rig) -> None:
    config = rig.policy.model.config
    assert int(config.image_token_id) in media_token_ids(rig.folder)
    assert int(config.image_token_id) in rig.policy.tokens.image


class Silent:
    """A processor that leaves the prompt alone."""

    class Tokenizer:
        pad_token_id = 0

    tokenizer = Tokenizer()
    image_token = "<image>"


def test_what_cannot_be_fed_is_refused_by_name(family_folder: Callable[[str], Path]) -> None:
    folder = family_folder("llava")
    model, processor = load_model(folder, "float32"), load_processor(folder)
    check_inputs(model, processor)
    with pytest.raises(ModelError, match="Silent does not say by which tokens"):
        model_tokens(model.config, Silent())
    model.config.text_config.logit_scale = 0.25
    with pytest.raises(ModelError, match=r"llava model changes its logits after the head \(logit_scale = 0.25\)"):
        check_inputs(model, processor)
    model.config.text_config.logit_scale = 1

    class Crossed(type(processor)):  # as Llama 3.2's, whose pictures are not in the prompt
        def __call__(self, *arguments: Any, **more: Any) -> Any:
            return {**super().__call__(*arguments, **more), "past_key_values": None}

    processor.__class__ = Crossed
    with pytest.raises(ModelError, match="llava model also takes past_key_values"):
        check_inputs(model, processor)
