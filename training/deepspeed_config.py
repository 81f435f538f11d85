"""What DeepSpeed is told, and which parameters train at which rate."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from residency.platform.recipe import LoraConfig, OptimizerConfig

PERSISTENCE_THRESHOLD = (
    10_000  # elements; ZeRO-3 keeps smaller parameters whole: gathering them costs more than it saves
)
BUCKET_ELEMENTS = 50_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """How one learner group trains. ``total_steps`` is what warm-up and decay are counted against.

    ``lora``: adapters train in place of the weights, and everything else is frozen.
    """

    optimizer: OptimizerConfig
    total_steps: int
    zero_stage: Literal[1, 2, 3] = 2
    dtype: Literal["float32", "bfloat16"] = "float32"
    micro_batch_tokens: int = 8192
    activation_checkpointing: bool = False
    threads: int = 1
    seed: int = 0
    deadline_seconds: float = 600.0
    trust_remote_code: bool = False
    lora: LoraConfig | None = None


def deepspeed_config(settings: EngineSettings, universal: bool = False) -> dict[str, Any]:
    """The DeepSpeed configuration: torch's AdamW under ZeRO, one optimizer step for each call of ``step``.

    Gradient accumulation is unmanaged, because the number of micro-batches differs from batch to batch. ``universal``:
    the state that is loaded next is in the form for any number of ranks.
    """
    optimizer = settings.optimizer
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": optimizer.gradient_clip,
        "steps_per_print": 2**31,
        "checkpoint": {"load_universal": universal},
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": optimizer.learning_rate,
                "betas": list(optimizer.betas),
                "weight_decay": optimizer.weight_decay,
                "torch_adam": True,
                "fused": True,  # a third of the time of torch's plain loop on CPU
            },
        },
        "zero_optimization": {
            "stage": settings.zero_stage,
            "overlap_comm": False,
            # a copy of every gradient against fragmentation, which host memory does not know
            "contiguous_gradients": torch.cuda.is_available(),
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "allgather_bucket_size": BUCKET_ELEMENTS,
            "stage3_param_persistence_threshold": PERSISTENCE_THRESHOLD,
        },
    }


def in_vision_tower(name: str) -> bool:
    """Whether a parameter is below a module called ``visual``, ``vision_tower`` or ``vision_model``.

    Its projector (``merger``) is not counted: it learns with the language model.
    """
    path = name.split(".")
    return not {"visual", "vision_tower", "vision_model"}.isdisjoint(path) and "merger" not in path


def freeze_vision_tower(model: torch.nn.Module) -> None:
    """No gradient and no optimizer state for it."""
    for name, parameter in model.named_parameters():
        if in_vision_tower(name):
            parameter.requires_grad_(False)


def parameter_groups(model: torch.nn.Module, optimizer: OptimizerConfig) -> list[dict[str, Any]]:
    """What trains: one group, or two where the vision tower has its own rate; ``peak`` is a group's at factor 1."""
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        peak = optimizer.learning_rate
        if in_vision_tower(name) and optimizer.vision_learning_rate is not None:
            peak = optimizer.vision_learning_rate
        groups.setdefault(peak, []).append(parameter)
    return [{"params": parameters, "lr": peak, "peak": peak} for peak, parameters in groups.items()]
