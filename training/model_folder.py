"""What a Hugging Face folder must hold before any role is started on it. Reads JSON only: no torch, no transformers."""

import json
import re
from pathlib import Path
from typing import Any

from residency.platform.errors import ModelError

TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model")
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
MEDIA_TOKEN_KEY = re.compile(r"^(image|video|vision|audio)\w*_token_(id|index)$")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error})", "a JSON file", "copy the model folder again") from error
    if not isinstance(tree, dict):
        raise ModelError(f"{path} holds {type(tree).__name__}", "a JSON object", "copy the model folder again")
    return tree


def _has_chat_template(model_dir: Path) -> bool:
    if any((model_dir / name).is_file() for name in TEMPLATE_FILES):
        return True
    configs = (model_dir / name for name in ("tokenizer_config.json", "processor_config.json"))
    return any(path.is_file() and bool(_read_json(path).get("chat_template")) for path in configs)


def check_model_folder(model_dir: Path, trust_remote_code: bool = False) -> None:
    """Raises ModelError, naming the folder and what to do, where a role could not start on it."""
    if not model_dir.is_dir():
        raise ModelError(
            f"model folder {model_dir} does not exist", "a Hugging Face folder", "correct student.model in the recipe"
        )

    def has(*names: str) -> bool:
        return any((model_dir / name).is_file() for name in names)

    if not has("config.json"):
        raise ModelError(
            f"{model_dir} has no config.json", "a Hugging Face folder", "give the folder that save_pretrained wrote"
        )
    config = _read_json(model_dir / "config.json")
    if not any(model_dir.glob("*.safetensors")):
        raise ModelError(
            f"{model_dir} has no .safetensors file",
            "weights as safetensors (pickled weights are refused)",
            "save the model again with save_pretrained",
        )
    if not has(*TOKENIZER_FILES):
        raise ModelError(
            f"{model_dir} has no tokenizer ({', '.join(TOKENIZER_FILES)})",
            "the tokenizer's files beside the weights",
            "copy them from the model's source, or save the processor into the folder with save_pretrained",
        )
    if is_multimodal(model_dir) and not has(*PROCESSOR_FILES):
        raise ModelError(
            f"{model_dir} has no {' or '.join(PROCESSOR_FILES)}",
            "a multimodal model's processor beside the weights",
            "save the processor into the folder with save_pretrained",
        )
    if not _has_chat_template(model_dir):
        raise ModelError(
            f"{model_dir} has no chat template",
            "chat_template.jinja, or `chat_template` in tokenizer_config.json",
            "copy the template from the model's source: a base model without one cannot be asked questions",
        )
    if "auto_map" in config and not trust_remote_code:
        raise ModelError(
            f"{model_dir} wants to run its own code (`auto_map` in config.json)",
            "a model whose code is in transformers",
            "read that code, then set student.trust_remote_code: true in the recipe, or take another model",
        )


def media_token_ids(model_dir: Path) -> tuple[int, ...]:
    """Sorted ids of the tokens that stand for media (image, video, vision start and end): never to be sampled."""
    if not (model_dir / "config.json").is_file():
        raise ModelError(f"{model_dir} has no config.json", "a Hugging Face folder")
    config = _read_json(model_dir / "config.json")
    ids = {value for key, value in config.items() if MEDIA_TOKEN_KEY.match(key) and isinstance(value, int)}
    return tuple(sorted(ids))


def is_multimodal(model_dir: Path) -> bool:
    """Whether the model sees images: its configuration then has a vision tower's. Such a folder needs a processor."""
    if not (model_dir / "config.json").is_file():
        raise ModelError(f"{model_dir} has no config.json", "a Hugging Face folder")
    return "vision_config" in _read_json(model_dir / "config.json")
