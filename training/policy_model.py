"""The model that a rank trains: what of it trains, and what its weights are called and worth outside the learner."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from residency.training.adapters import Adapter, Adapters, restore_base
from residency.training.checkpoints import checkpoint_names, load_model, saved_parameters
from residency.training.deepspeed_config import EngineSettings, freeze_vision_tower
from residency.training.model_inputs import check_inputs, model_tokens
from residency.training.weight_buckets import plan_buckets

Bucket = list[tuple[str, torch.nn.Parameter, Adapter | None]]  # live name, weight (of the base), its adapter
Gather = Callable[[list[torch.nn.Parameter]], AbstractContextManager[Any]]


class PolicyModel:
    """A folder's model as the settings want it. ``names``: live name before adapters → name in the checkpoint.

    ``restored_from``: a state checkpoint, whose folder holds merged weights: the base is put back under its adapters.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings, processor: Any, restored_from: Path | None) -> None:
        self.model = load_model(model_dir, settings.dtype, settings.trust_remote_code)
        if settings.activation_checkpointing:
            self.model.gradient_checkpointing_enable()
        check_inputs(self.model, processor)
        self.tokens = model_tokens(self.model.config, processor)
        self.names = checkpoint_names(self.model)
        self._weights = saved_parameters(self.model)  # before adapters: the parameters stay, their live names change
        self.adapters: Adapters | None = None
        if settings.lora is not None:
            if restored_from is not None:
                restore_base(self.model, restored_from)
            self.adapters = Adapters(self.model, settings.lora)
        elif settings.optimizer.vision_learning_rate == 0:
            freeze_vision_tower(self.model)

    def buckets(self, bucket_bytes: int, gathered: Gather) -> Iterator[Bucket]:
        """All weights, bucket by bucket, whole until the next bucket; a weight's adapter is gathered with it."""
        adapted = self.adapters.by_name if self.adapters is not None else {}
        shapes = [(name, whole_shape(weight)) for name, weight in self._weights.items()]
        for planned in plan_buckets(shapes, bucket_bytes):
            bucket = [(name, self._weights[name], adapted.get(name)) for name, _ in planned]
            parts = [weight for _, weight, _ in bucket]
            parts += [part for _, _, adapter in bucket if adapter for part in (adapter.down, adapter.up)]
            with gathered(parts):
                yield bucket


def whole_shape(parameter: torch.nn.Parameter) -> torch.Tensor:
    """A tensor without data of the parameter's whole shape (under ZeRO-3 the parameter itself is a shard)."""
    return torch.empty(getattr(parameter, "ds_shape", parameter.shape), dtype=parameter.dtype, device="meta")
