"""The reward out of a verdict's parts: each part by its share, as the recipe's ``rl.reward.weights`` has them."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from residency.platform.recipe import LengthConfig, RewardConfig


class Composed(NamedTuple):
    """``score`` is 0–1; ``note`` names the parts that have a share and are not there (empty where none)."""

    score: float
    parts: dict[str, float]
    note: str


def length_part(num_characters: int, length: LengthConfig) -> float:
    """1 for a text that is short enough, 0 from ``max_characters`` on, linear between: 1 + DAPO's equation 13."""
    over = num_characters - (length.max_characters - length.soft_characters)
    return 1.0 - min(max(over / length.soft_characters, 0.0), 1.0)


def compose(parts: Mapping[str, float], text: str, reward: RewardConfig) -> Composed:
    """Score = Σ share · part. A part that the verdict lacks counts 0, and the note says so."""
    whole = dict(parts)
    if reward.length is not None:
        whole["length"] = length_part(len(text), reward.length)
    weights = reward.weights
    score = math.fsum([share * whole.get(name, 0.0) for name, share in weights.items()])
    lacking = [name for name in weights if name not in whole]
    note = f"; no part {', '.join(lacking)}, counted as 0" if lacking else ""
    return Composed(min(score, 1.0), whole, note)
