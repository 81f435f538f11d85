"""A sampler and a trainer for the mismatch tests, both the real tiny student: sampled by a plain loop."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from PIL import Image

from residency.platform.arrow_tables import to_table
from residency.platform.prompts import render_prompt
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Trace
from residency.training.checkpoints import load_model, load_processor
from residency.training.mismatch.plain_scorer import PlainScorer
from residency.training.mismatch.probes import Probes, Scoring
from residency.training.mismatch.sampled_row import SampledRow, sampled_rows
from residency.training.model_folder import media_token_ids
from residency.training.rollout_encoding import encode_rollouts

NUM_ITEMS, GROUP, NUM_TOKENS = 6, 3, 10
VERSION = 7  # packed, of the weights that sampled and train


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the sampler of a test samples, with the weights, template and image processing of its folder."""

    folder: Path
    dtype: str = "float32"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    traces: pa.Table
    batch: pa.Table
    prompts: Mapping[str, str]

    def rows(self) -> list[SampledRow]:
        return sampled_rows(self.traces, self.batch, self.prompts)


def item_of(number: int, media: Sequence[str]) -> Item:
    return Item(
        id=f"item{number}", content_key="c", source="s", split=Split.TRAIN, licence="l", cluster="c",
        media=tuple(media), question=f"how many cells are there? {number}", answer="7",
        answer_kind=AnswerKind.NUMBER, family=Family.MEDICAL_MULTIMODAL,
    )  # fmt: skip


def drawn(logits_NV: torch.Tensor, how: Sampling, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row, and its logprob: temperature, then top-k, then top-p, written out a second time on purpose."""
    logits_NV = logits_NV / how.temperature
    if how.top_k:
        logits_NV = logits_NV.masked_fill(logits_NV < logits_NV.topk(how.top_k).values[:, -1:], float("-inf"))
    if how.top_p < 1:
        likelier, order = logits_NV.softmax(-1).sort(-1, descending=True)
        beyond = likelier.cumsum(-1) - likelier >= how.top_p
        logits_NV = logits_NV.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), float("-inf"))
    logprobs_NV = torch.log_softmax(logits_NV, -1)
    tokens_N1 = torch.multinomial(logprobs_NV.exp(), 1, generator=random)
    return tokens_N1, logprobs_NV.gather(1, tokens_N1)


@pytest.fixture(scope="session")
def roll_out(media: pa.Table) -> Callable[..., Rollouts]:
    """Groups of rollouts, every third prompt without an image, as traces and as the batch that is trained on."""
    pngs = dict(zip(media.column("hash").to_pylist(), media.column("png").to_pylist(), strict=True))

    def run(folder: Path, only_images: bool = False, **sampling: Any) -> Rollouts:
        how = Sampling(folder=folder, **sampling)
        model, processor = load_model(how.folder, how.dtype).eval(), load_processor(how.folder)
        banned, random = list(media_token_ids(how.folder)), torch.Generator().manual_seed(0)
        traces: list[Trace] = []
        items = [
            item_of(number, () if number % 3 == 2 and not only_images else (list(pngs)[number % 3],))
            for number in range(NUM_ITEMS)
        ]
        for item in items:
            prompt = render_prompt(item, PromptMode.THINK)
            parts = [*[{"type": "image"}] * len(item.media), {"type": "text", "text": prompt}]
            chat = [{"role": "user", "content": parts}]
            text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            images = [Image.open(io.BytesIO(pngs[name])).convert("RGB") for name in item.media]
            inputs: dict[str, Any] = dict(processor(text=[text], images=images or None, return_tensors="pt"))
            ids = inputs.pop("input_ids").repeat(GROUP, 1)
            seen = {}
            if images:
                seen = {
                    "pixel_values": inputs["pixel_values"].repeat(GROUP, 1),
                    "image_grid_thw": inputs["image_grid_thw"].repeat(GROUP, 1),
                }
            prompt_ids, logprobs = ids[0].tolist(), []
            for _ in range(NUM_TOKENS):
                types = (ids == processor.image_token_id).int()
                with torch.no_grad():
                    logits_NV = model(input_ids=ids, mm_token_type_ids=types, **seen).logits[:, -1].float()
                logits_NV[:, banned] = float("-inf")
                tokens_N1, chosen_N1 = drawn(logits_NV, how, random)
                ids, logprobs = torch.cat([ids, tokens_N1], 1), [*logprobs, chosen_N1]
            sampled, chosen = ids[:, len(prompt_ids) :].tolist(), torch.cat(logprobs, 1).tolist()
            traces += [
                Trace(
                    id=f"{item.id}-{number}", item_id=item.id, role="policy", model="rl", prompt_mode=PromptMode.THINK,
                    prompt_hash="h", seed=0, sample_index=number, prompt_token_ids=tuple(prompt_ids),
                    token_ids=tuple(sampled[number]), logprobs=tuple(chosen[number]),
                    policy_versions=(VERSION,) * NUM_TOKENS, finish_reason="length",
                    text=processor.tokenizer.decode(sampled[number], skip_special_tokens=True),
                )
                for number in range(GROUP)
            ]  # fmt: skip
        table = to_table(traces, Trace)
        batch = encode_rollouts(table, {trace.id: 1.0 for trace in traces}, {item.id: item.media for item in items})
        return Rollouts(
            traces=table, batch=batch, prompts={item.id: render_prompt(item, PromptMode.THINK) for item in items}
        )

    return run


@pytest.fixture(scope="session")
def probes_of(media: pa.Table) -> Callable[..., Probes]:
    """Probes of a trainer whose weights are in this folder."""

    def make(folder: Path, older: Mapping[str, Path] | None = None, processors: Any = None, **how: Any) -> Probes:
        scorer = PlainScorer({"rl": folder, **(older or {})}, "rl", media, processors)
        return scorer.probes(replace(Scoring(weights="rl"), **how), VERSION)

    return make
