"""A model of another family than the student's, with a tokenizer that opens every text, as Llama's: the engine's prompt
ids and logprobs are the trainer's."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
from PIL import Image

from residency.actors.engine_config import EngineConfig
from residency.actors.engine_requests import REQUEST_SCHEMA
from residency.actors.generator import start_generator
from residency.platform.media_store import MEDIA_SCHEMA, encode_png, media_hash
from residency.platform.sampling import SamplingConfig
from residency.training.checkpoints import load_model, load_processor
from residency.training.collation import collate
from residency.training.encoding import expand_images, prompt_messages
from residency.training.model_folder import media_token_ids
from residency.training.model_inputs import model_tokens
from residency.training.pixel_cache import PixelCache
from residency.training.rollout_encoding import encode_rollouts
from residency.training.token_scorer import TokenScorer
from residency.training.training_batch import BatchReader

DEADLINE_SECONDS = 240
QUESTION = "which side is the lesion on?"
SHAPES = ((112, 56), (56, 56), (70, 100))  # of two tiles, of one, of another shape
ROWS = ((0,), (1,), (), (0, 2))  # the pictures of each request
SAMPLES = 4


@pytest.fixture
def family_dir(family_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """Idefics3 on Llama. Its tokenizer adds an opening token by itself, and its chat template writes it."""
    folder = Path(shutil.copytree(family_folder("idefics3"), tmp_path / "idefics3"))
    tokenizer, template = json.loads((folder / "tokenizer.json").read_text()), folder / "chat_template.jinja"
    opening = tokenizer["added_tokens"][0]
    name, token_id = opening["content"], opening["id"]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [token_id], "tokens": [name]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    template.write_text(name + template.read_text())
    assert load_processor(folder).tokenizer("a")["input_ids"][0] == token_id, "it would be added once more"
    return folder


@pytest.fixture
def generator(ray_cluster: Any, family_dir: Path) -> Iterator[Any]:
    config = EngineConfig(
        threads=1, max_sequences=16, max_model_len=256, max_batch_tokens=1024, kv_cache_gib=0.1, images_per_prompt=2
    )
    actor = start_generator(family_dir, config, label="base", **ray_cluster.on(ray_cluster.right))
    yield actor
    ray.get(actor.close.remote(), timeout=DEADLINE_SECONDS)
    ray.kill(actor)


def pictures() -> pa.Table:
    drawn = np.random.default_rng(0)
    shapes = [(height, width, 3) for width, height in SHAPES]
    pngs = [encode_png(Image.fromarray(drawn.integers(0, 255, shape, dtype=np.uint8))) for shape in shapes]
    return pa.Table.from_pylist([{"hash": media_hash(png), "png": png} for png in pngs], schema=MEDIA_SCHEMA)


def test_its_prompts_and_logprobs_are_the_trainers(generator: Any, family_dir: Path) -> None:
    media = pictures()
    hashes = media.column("hash").to_pylist()
    shown = {f"item{number}": [hashes[each] for each in row] for number, row in enumerate(ROWS)}
    requests = [
        {"item_id": item, "prompt": QUESTION, "media": of, "prompt_mode": "direct", "num_samples": SAMPLES, "seed": 7}
        for item, of in shown.items()
    ]
    assert ray.get(generator.load_media.remote(ray.put(media)), timeout=DEADLINE_SECONDS) == len(media)
    table = pa.Table.from_pylist(requests, schema=REQUEST_SCHEMA)
    asked = generator.generate.remote(ray.put(table), SamplingConfig(temperature=1.0, max_new_tokens=24))
    traces = cast(pa.Table, ray.get(asked, timeout=DEADLINE_SECONDS))

    processor, model = load_processor(family_dir), load_model(family_dir, "float32").eval()
    pixels = PixelCache(processor, media)
    for item, prompt_ids in zip(*traces.select(["item_id", "prompt_token_ids"]).to_pydict().values(), strict=True):
        chat = prompt_messages([{"role": "user", "content": QUESTION}], len(shown[item]))
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        text = expand_images(text, processor, pixels.get(shown[item]))
        assert prompt_ids == processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    rewards = dict.fromkeys(traces.column("id").to_pylist(), 1.0)
    reader = BatchReader(encode_rollouts(traces, rewards, shown))
    batch = collate(reader, list(range(reader.num_rows)), pixels, model_tokens(model.config, processor))
    with torch.no_grad():
        logprobs, _ = TokenScorer(model, media_token_ids(family_dir))(batch, 1.0)
    assert len(logprobs) > 100
    assert (logprobs - batch.sampler_logprobs_T).abs().max().item() <= 1e-5
