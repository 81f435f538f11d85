"""What DeepSpeed is told, and which parameters train at which rate."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from residency.platform.recipe import OptimizerConfig

PERSISTENCE_THRESHOLD = (
    10_000  # elements; ZeRO-3 keeps smaller parameters whole: gathering them costs more than it saves
)
BUCKET_ELEMENTS = 50_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """How one learner group trains. ``total_steps`` is what warm-up and decay are counted against."""

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


def deepspeed_config(settings: EngineSettings) -> dict[str, Any]:
    """The DeepSpeed configuration: torch's AdamW under ZeRO, one optimizer step for each call of ``step``.

    Gradient accumulation is unmanaged, because the number of micro-batches differs from batch to batch.
    """
    optimizer = settings.optimizer
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": optimizer.gradient_clip,
        "steps_per_print": 2**31,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": optimizer.learning_rate,
                "betas": list(optimizer.betas),
                "weight_decay": optimizer.weight_decay,
                "torch_adam": True,
            },
        },
        "zero_optimization": {
            "stage": settings.zero_stage,
            "overlap_comm": False,
            "contiguous_gradients": True,
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "allgather_bucket_size": BUCKET_ELEMENTS,
            "stage3_param_persistence_threshold": PERSISTENCE_THRESHOLD,
        },
    }


def parameter_groups(model: torch.nn.Module, optimizer: OptimizerConfig) -> list[dict[str, Any]]:
    """One group, or two where the vision tower has a rate of its own; ``peak`` is the group's rate at factor 1.

    The vision tower is every parameter below a module called ``visual`` or ``vision_tower``, except the projector
    (``merger``), which learns with the language model.
    """
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        path = name.split(".")
        in_tower = ("visual" in path or "vision_tower" in path) and "merger" not in path
        peak = optimizer.learning_rate
        if in_tower and optimizer.vision_learning_rate is not None:
            peak = optimizer.vision_learning_rate
        groups.setdefault(peak, []).append(parameter)
    return [{"params": parameters, "lr": peak, "peak": peak} for peak, parameters in groups.items()]
