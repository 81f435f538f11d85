"""The tensors of a Hugging Face folder, read from its safetensors files under the names that stand there."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from residency.platform.errors import ModelError


def safetensors_files(model_dir: Path) -> list[Path]:
    """The folder's weight files in name order; ModelError where there is none."""
    files = sorted(model_dir.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{model_dir} holds no .safetensors file",
            "a Hugging Face folder with its weights as safetensors",
            "save the model with save_pretrained, or download the safetensors files",
        )
    return files


def folder_tensors(model_dir: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of every weight, one at a time: a folder larger than the memory passes."""
    for file in safetensors_files(model_dir):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 (safe_open is no mapping)
                yield name, weights.get_tensor(name)


def folder_shapes(model_dir: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of every weight, from the files' headers alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in safetensors_files(model_dir):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                shapes[name] = tuple(weights.get_slice(name).get_shape())
    return shapes
