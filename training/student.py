"""The tiny student: a Qwen2.5-VL of 2–4M parameters built from configuration, as an ordinary Hugging Face folder."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from residency.training.chat_template import CHAT_TEMPLATE
from residency.training.student_tokenizer import (
    END_OF_TEXT,
    IMAGE_PAD,
    TURN_END,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
    train_tokenizer,
)

PATCH = 14  # pixels; two of them make a token's edge after the merge
TOKEN_EDGE = 2 * PATCH
MAX_POSITIONS = 2048


def student_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Text 256 wide × 4 layers, head size 64; vision 128 wide × 2 blocks, full attention; tied embeddings as the 3B."""
    vocabulary = tokenizer.get_vocab()
    end_of_text, turn_end = vocabulary[END_OF_TEXT], vocabulary[TURN_END]
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 256,
        "intermediate_size": 448,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_POSITIONS,
        "max_window_layers": 4,
        "rms_norm_eps": 1e-6,
        # Half a head is 32 rotary pairs, dealt to time, height and width as 1 : 1.5 : 1.5 like the 3B's [16, 24, 24].
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
        "bos_token_id": end_of_text,
        "eos_token_id": turn_end,
        "pad_token_id": end_of_text,
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 2,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_heads": 2,
        "out_hidden_size": 256,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 4 * TOKEN_EDGE,
        "fullatt_block_indexes": [0, 1],
        "tokens_per_second": 2,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=vocabulary[IMAGE_PAD],
        video_token_id=vocabulary[VIDEO_PAD],
        vision_start_token_id=vocabulary[VISION_START],
        vision_end_token_id=vocabulary[VISION_END],
        tie_word_embeddings=True,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelStatistics:
    """Mean and standard deviation of red, green and blue over pictures, 0–1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# CLIP's, which Qwen2.5-VL's processor uses by default.
CLIP_PIXELS = PixelStatistics(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))


def pixel_statistics(pictures: Sequence[Image.Image]) -> PixelStatistics:
    """Over all pixels of the pictures; CLIP's where there is no picture. A channel's std is at least 1/255."""
    if not pictures:
        return CLIP_PIXELS
    pixels = np.concatenate([np.asarray(picture.convert("RGB")).reshape(-1, 3) for picture in pictures]) / 255.0
    mean, std = pixels.mean(axis=0).tolist(), np.maximum(pixels.std(axis=0), 1 / 255).tolist()
    return PixelStatistics(mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]))


def student_processor(
    tokenizer: PreTrainedTokenizerFast, image_size: int, pixels: PixelStatistics = CLIP_PIXELS
) -> Qwen2_5_VLProcessor:
    """Qwen2.5-VL's processor; pictures of ``image_size`` stay as they are, larger ones are brought down to its area.

    Pictures of one kind share most of their light. Unless that is taken away, a model trained from scratch sees the
    same vector in every picture, several times longer than what tells pictures apart, and learns to look past it.
    """
    edge = max(TOKEN_EDGE, round(image_size / TOKEN_EDGE) * TOKEN_EDGE)
    size = {"shortest_edge": min(4 * TOKEN_EDGE**2, edge**2), "longest_edge": edge**2}
    grid: dict[str, Any] = {"size": size, "patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(image_mean=list(pixels.mean), image_std=list(pixels.std), **grid),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**grid),
        chat_template=CHAT_TEMPLATE,
    )


def initialize_wide(model: torch.nn.Module) -> None:
    """Glorot's normal initialization (2010, eq. 16) for every matrix but the embeddings, in place.

    The configuration's default (0.02, made for widths of thousands) is so small at a width of 128 that pictures hardly
    reach the language model: trained from scratch, the student then stays at the majority answer of each question.
    """
    for name, weight in model.named_parameters():
        if weight.dim() >= 2 and "embed_tokens" not in name and "lm_head" not in name:
            torch.nn.init.xavier_normal_(weight.data.view(weight.shape[0], -1))


def build_student(
    out: Path, texts: Iterable[str], seed: int, image_size: int = 84, pictures: Sequence[Image.Image] = ()
) -> Path:
    """Build model, tokenizer and processor into the folder ``out`` (replaced where it exists); returns ``out``.

    The tokenizer is trained on ``texts``; the processor centres pixels on ``pictures`` (give some of the train split).
    The same arguments give the same files. Written aside, then renamed.
    """
    tokenizer = train_tokenizer(texts)
    config = student_config(tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
        initialize_wide(model)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.pad_token_id, eos_token_id=[tokenizer.eos_token_id], pad_token_id=tokenizer.pad_token_id
    )
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    model.save_pretrained(aside)
    student_processor(tokenizer, image_size, pixel_statistics(pictures)).save_pretrained(aside)
    shutil.rmtree(out, ignore_errors=True)
    aside.replace(out)
    return out
