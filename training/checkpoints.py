"""Checkpoints as ordinary Hugging Face folders, and the names that tensors have in them."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.core_model_loading import revert_weight_conversion

from residency.platform.errors import ModelError, StorageError
from residency.training.model_folder import check_model_folder


def load_model(model_dir: Path, dtype: str, trust_remote_code: bool = False) -> Any:
    """The model of a Hugging Face folder, in ``dtype``, on CPU."""
    check_model_folder(model_dir, trust_remote_code)
    return AutoModelForImageTextToText.from_pretrained(
        model_dir, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code, local_files_only=True
    )


def load_processor(model_dir: Path, trust_remote_code: bool = False) -> Any:
    """Tokenizer, image processor and chat template of a Hugging Face folder."""
    check_model_folder(model_dir, trust_remote_code)
    return AutoProcessor.from_pretrained(model_dir, trust_remote_code=trust_remote_code, local_files_only=True)


def saved_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Live name → parameter of what a checkpoint holds: a tied parameter once, under the name it is tied to."""
    tied = getattr(model, "all_tied_weights_keys", {}) or {}
    return {name: value for name, value in model.named_parameters(remove_duplicate=False) if name not in tied}


def checkpoint_names(model: Any) -> dict[str, str]:
    """Live name → name in the checkpoint that ``save_pretrained`` writes.

    Raises ModelError where saving would merge or split tensors: then weights cannot be sent one by one.
    """
    names: dict[str, str] = {}
    for name in saved_parameters(model):
        reverted = revert_weight_conversion(model, {name: torch.empty(0)})
        if len(reverted) != 1:
            raise ModelError(
                f"saving turns the parameter {name} into {len(reverted)} tensors",
                "a model whose checkpoint holds each parameter as it is",
                "take a model whose tensors are saved one to one",
            )
        names[name] = next(iter(reverted))
    return names


def write_checkpoint(out: Path, model: Any, processor: Any, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write model (with ``tensors`` by live name as its weights) and processor aside, then rename to ``out``.

    Raises StorageError where the disk is full; nothing half-written is left behind.
    """
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        model.save_pretrained(aside, state_dict=dict(tensors))
        processor.save_pretrained(aside)
        shutil.rmtree(out, ignore_errors=True)
        aside.replace(out)
    except (OSError, SafetensorError) as error:
        full = "No space left" in str(error)
        raise StorageError(
            f"checkpoint {out} could not be written: {'the disk is full' if full else error}",
            "room for the model, and leave to write",
            "free some space and run again: it goes on after the last finished stage",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out
