"""Checkpoints as ordinary Hugging Face folders, and the names that tensors have in them."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.core_model_loading import revert_weight_conversion

from residency.platform.errors import ModelError, StorageError
from residency.training.model_folder import check_model_folder, is_multimodal


def load_model(model_dir: Path, dtype: str, trust_remote_code: bool = False) -> Any:
    """The model of a Hugging Face folder, in ``dtype``, on CPU: one that sees images where it can, else text only."""
    check_model_folder(model_dir, trust_remote_code)
    source: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    kind: Any = AutoModelForImageTextToText if is_multimodal(model_dir) else AutoModelForCausalLM
    return kind.from_pretrained(model_dir, dtype=getattr(torch, dtype), **source)


def load_processor(model_dir: Path, trust_remote_code: bool = False) -> Any:
    """Tokenizer, image processor and chat template of a Hugging Face folder; a text-only model's is its tokenizer."""
    check_model_folder(model_dir, trust_remote_code)
    kind: Any = AutoProcessor if is_multimodal(model_dir) else AutoTokenizer
    return kind.from_pretrained(model_dir, trust_remote_code=trust_remote_code, local_files_only=True)


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer of a processor, which is the processor itself where the model reads text only."""
    return getattr(processor, "tokenizer", processor)


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


def write_folder(folder: Path, model: Any, processor: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write model (with ``tensors`` by live name as its weights) and processor into a folder that is there."""
    model.save_pretrained(folder, state_dict=dict(tensors))
    processor.save_pretrained(folder)


def aside_of(out: Path) -> Path:
    """Where a checkpoint is written before it is whole."""
    return out.with_name(f".{out.name}.partial")


def put_in_place(aside: Path, out: Path) -> None:
    """Give a whole checkpoint its name; one that had the name goes."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    aside.rename(out)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def nothing_half_written(out: Path, cleans: bool) -> Iterator[None]:
    """Whatever fails within leaves no partial folder (where ``cleans``); what the disk refused is a StorageError."""
    whole = False
    try:
        yield
        whole = True
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch writes through a stream of its own, which gives a RuntimeError where the disk is full
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        full = "No space left" in str(error) or isinstance(error, RuntimeError)
        raise StorageError(
            f"checkpoint {out} could not be written: {'the disk is full' if full else error}",
            "room for the model and its state, and leave to write",
            "free some space and run again: it goes on after the last finished stage",
        ) from error
    finally:
        if cleans and not whole:
            shutil.rmtree(aside_of(out), ignore_errors=True)
