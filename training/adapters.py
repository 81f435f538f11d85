"""Low-rank adapters (LoRA, arXiv 2106.09685) on the language model, by peft; merged where weights leave the learner."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file

from residency.platform.errors import ModelError
from residency.platform.recipe import LoraConfig

ADAPTER_FOLDER = "adapter"
BASE_FILE = "state/base.safetensors"  # what the adapted layers hold without their adapters, for an exact resume


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """One adapted layer's parameters: W [out, in], A [r, in], B [out, r]; what leaves the learner is W + α/r · B A."""

    base: torch.nn.Parameter
    down: torch.nn.Parameter  # A
    up: torch.nn.Parameter  # B
    scaling: float

    def merged(self) -> torch.Tensor:
        """W + α/r · B A, summed in float32, in W's dtype; where ZeRO-3 shards them, within a gather of all three."""
        delta = self.up.detach().float() @ self.down.detach().float()
        return (self.base.detach().float() + self.scaling * delta).to(self.base.dtype)


class Adapters:
    """Injects adapters into a model, in place, and freezes all the rest. A is drawn from torch's generator, B is 0."""

    def __init__(self, model: Any, lora: LoraConfig) -> None:
        self._layers = adapted_layers(model, lora.modules)
        self._config = peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType] (peft takes any number)
            lora_dropout=lora.dropout,
            target_modules=list(self._layers),
        )
        model.requires_grad_(False)
        peft.inject_adapter_in_model(self._config, model)
        live = dict(model.named_parameters(remove_duplicate=False))
        self.by_name = {
            f"{layer}.weight": Adapter(
                base=live[f"{layer}.base_layer.weight"],
                down=live[f"{layer}.lora_A.default.weight"],
                up=live[f"{layer}.lora_B.default.weight"],
                scaling=lora.alpha / lora.rank,
            )
            for layer in self._layers
        }
        """By the live name that the layer's weight had before."""

    def save(self, folder: Path, tensors: Mapping[str, tuple[torch.Tensor, torch.Tensor]], base_dir: str) -> None:
        """Write (A, B) of each adapted weight in peft's own form; ``base_dir`` is what the adapter was trained on."""
        folder.mkdir(parents=True)
        named: dict[str, torch.Tensor] = {}
        for weight, (down, up) in tensors.items():
            prefix = f"base_model.model.{weight.removesuffix('.weight')}"
            named |= {f"{prefix}.lora_A.weight": down.contiguous(), f"{prefix}.lora_B.weight": up.contiguous()}
        save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        self._config.base_model_name_or_path = base_dir
        self._config.inference_mode = True
        self._config.save_pretrained(str(folder))


def adapted_layers(model: Any, modules: tuple[str, ...]) -> list[str]:
    """Live names of the language model's linear layers whose last part is in ``modules``; ModelError for one absent."""
    decoder = model.get_decoder()
    inside = {id(module) for module in decoder.modules()}
    linear = [
        name
        for name, module in model.named_modules()
        if _is_linear(module) and id(module) in inside and name.rpartition(".")[2] in modules
    ]
    absent = sorted(set(modules) - {name.rpartition(".")[2] for name in linear})
    if absent:
        has = sorted({name.rpartition(".")[2] for name, module in decoder.named_modules() if _is_linear(module)})
        raise ModelError(
            f"the language model has no linear layers called {', '.join(absent)} (it has {', '.join(has)})",
            "adapters on layers that are there",
            "correct lora.modules in the recipe",
        )
    return linear


def _is_linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear)


def restore_base(model: Any, folder: Path) -> None:
    """Put what the adapted layers held without adapters back into a model that was loaded from merged weights."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in load_file(folder / BASE_FILE).items():
            parameters[name].copy_(tensor)
