"""The learning rate over the steps, as a factor of its peak."""

import math
from typing import Literal


def learning_rate_factor(
    step: int, total_steps: int, warmup_ratio: float, schedule: Literal["cosine", "constant"]
) -> float:
    """Factor for optimizer step ``step`` (from 0): linear warm-up to 1, then constant or a cosine to 0.

    The first warm-up step is not 0, and steps after the last keep the last one's factor.
    """
    warmup_steps = round(warmup_ratio * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = (min(step, total_steps - 1) - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * max(0.0, progress)))
