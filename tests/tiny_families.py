"""Tiny models of several vision-language families from configuration, as Hugging Face folders. Loaded by conftest."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

EDGE = 56  # pixels of a tower's picture: 4×4 patches of 14


def tokenizer_with(texts: Iterable[str], tokens: Iterable[str] = (), named: dict[str, str] | None = None) -> Any:
    """The student's tokenizer with more special tokens, some of them by attribute."""
    from transformers import PreTrainedTokenizerFast

    from residency.training.student_tokenizer import train_tokenizer

    trained = train_tokenizer(texts)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained.backend_tokenizer,
        eos_token=trained.eos_token,
        pad_token=trained.pad_token,
        model_max_length=2048,
        **({"extra_special_tokens": named} if named else {}),
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)}, replace_extra_special_tokens=False)
    return tokenizer


def template_with(placeholder: str) -> str:
    from residency.training.chat_template import CHAT_TEMPLATE, IMAGE_PLACEHOLDER

    return CHAT_TEMPLATE.replace(IMAGE_PLACEHOLDER, placeholder)


def text_part(kind: str, tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "model_type": kind,
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
        **more,
    }


VISION = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 3}


def llava(texts: Iterable[str]) -> tuple[Any, Any]:
    """CLIP's tower, one picture of fixed size, its features in place of as many tokens."""
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = tokenizer_with(texts, ["<image>"])
    size = {"height": EDGE, "width": EDGE}
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": EDGE}, crop_size=size),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template_with("<image>"),
    )
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "image_size": EDGE, "patch_size": 14, **VISION},
        text_config=text_part("qwen2", tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(config), processor


def internvl(texts: Iterable[str]) -> tuple[Any, Any]:
    """Pictures cut into tiles, as many as their shape asks for, between two tokens of their own."""
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer, size = tokenizer_with(texts, named=named), {"height": EDGE, "width": EDGE}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=3),
        tokenizer,
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=template_with("<IMG_CONTEXT>"),
    )
    config = InternVLConfig(
        vision_config={"image_size": [EDGE, EDGE], "patch_size": [14, 14], **VISION},
        text_config=text_part("qwen2", tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    return InternVLForConditionalGeneration(config), processor


def idefics3(texts: Iterable[str]) -> tuple[Any, Any]:
    """Tiles in rows and columns, each named in the prompt, filled up over a batch (SmolVLM's way too)."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    places = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    tokens = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *places]
    tokenizer = tokenizer_with(texts, tokens)
    processor = Idefics3Processor(
        Idefics3ImageProcessor(size={"longest_edge": 2 * EDGE}, max_image_size={"longest_edge": EDGE}),
        tokenizer,
        image_seq_len=4,
        chat_template=template_with("<image>"),
    )
    config = Idefics3Config(
        vision_config={"image_size": EDGE, "patch_size": 14, **VISION},
        text_config=text_part("llama", tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
    )
    return Idefics3ForConditionalGeneration(config), processor


def gemma3(texts: Iterable[str]) -> tuple[Any, Any]:
    """Image tokens see each other in both directions: the model needs to be told which they are."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = tokenizer_with(texts, named=named)
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": EDGE, "width": EDGE}),
        tokenizer,
        image_seq_length=4,
        chat_template=template_with("<start_of_image>"),
    )
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    config = Gemma3Config(
        vision_config={"model_type": "siglip_vision_model", "image_size": EDGE, "patch_size": 14, **VISION},
        text_config=text_part("gemma3_text", tokenizer, head_dim=64, query_pre_attn_scalar=64, sliding_window=64),
        mm_tokens_per_image=4,
        image_token_index=ids["image_token"],
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
        tie_word_embeddings=False,
    )
    return Gemma3ForConditionalGeneration(config), processor


def llava_onevision(texts: Iterable[str]) -> tuple[Any, Any]:
    """A whole picture and its tiles, in numbers that the picture's size tells."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    tokenizer = tokenizer_with(texts, ["<image>", "<video>"])
    size, pinpoints = {"height": EDGE, "width": EDGE}, [[EDGE, 2 * EDGE], [2 * EDGE, EDGE], [EDGE, EDGE]]
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=template_with("<image>"),
    )
    config = LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", "image_size": EDGE, "patch_size": 14, **VISION},
        text_config=text_part("qwen2", tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
        tie_word_embeddings=False,
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[Iterable[str]], tuple[Any, Any]]] = {
    "llava": llava,
    "internvl": internvl,
    "idefics3": idefics3,
    "gemma3": gemma3,
    "llava_onevision": llava_onevision,
}


def build_family(name: str, out: Path, texts: Iterable[str]) -> Path:
    """The family's tiny model of seed 0, wide initialization, in the folder ``out``."""
    import torch

    from residency.training.student import initialize_wide

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = FAMILIES[name](texts)
        initialize_wide(model)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out
