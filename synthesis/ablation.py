"""The five mixtures of an ablation: everything, and without each of its four parts, at the same number of examples."""

from collections.abc import Mapping
from typing import Any

from residency.platform.errors import RecipeError
from residency.platform.synthesis_config import MixtureConfig

ALL = "all"
LEFT_OUT: Mapping[str, tuple[str, str]] = {  # arm → the key of the mixture, and what it loses
    "without_reflective": ("targets", "reflective"),
    "without_general_cot": ("targets", "cot"),
    "without_general_multimodal": ("families", "general_multimodal"),
    "without_text": ("families", "textual_reasoning"),
}


def without(shares: Mapping[str, float], name: str, key: str) -> dict[str, float]:
    """The shares without one, the others in the same proportion; raises RecipeError where it has none."""
    if shares.get(name, 0.0) <= 0 or shares[name] >= 1:
        raise RecipeError(
            f"mixture.{key} gives {name} the share {shares.get(name, 0.0):g}",
            "a share between 0 and 1: an arm without it must differ, and have something left",
            f"give {name} a share in mixture.{key}",
        )
    rest = 1 - shares[name]
    return {other: share / rest for other, share in shares.items() if other != name}


def arms(mixture: MixtureConfig) -> dict[str, MixtureConfig]:
    """Arm → its mixture; raises RecipeError where the recipe's mixture has not all five kinds."""
    if mixture.families is None or mixture.num_examples is None:
        raise RecipeError(
            f"mixture.families is {mixture.families} and the number of examples {mixture.num_examples}",
            "both, so that each arm has a stated mixture of the same size",
            "give mixture.families, and mixture.examples or mixture.scale",
        )
    found = {ALL: mixture}
    dumped: dict[str, Any] = mixture.model_dump()
    for arm, (key, name) in LEFT_OUT.items():
        found[arm] = MixtureConfig.model_validate({**dumped, key: without(dumped[key], name, key)})
    return found
