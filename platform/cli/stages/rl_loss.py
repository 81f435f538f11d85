"""The recipe's RL as the learner is told it."""

from residency.platform.recipe import RlConfig
from residency.training.losses import LossConfig


def loss_config(config: RlConfig, max_new_tokens: int) -> LossConfig:
    """The loss of a step, with the sampler's own temperature, top-k and top-p."""
    kl = config.kl if config.kl is not None and config.kl.place == "loss" else None
    return LossConfig(
        kind=config.algorithm,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        truncation=config.truncation,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        max_tokens=max_new_tokens,
        kl_estimator=kl.estimator if kl is not None else None,
        kl_coefficient=kl.coefficient if kl is not None else 0.0,
    )
