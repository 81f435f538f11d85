"""The training batch of one RL step out of its judged groups: one way to build it, for the loop and for `replay`."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.learner_restarts import learners_at_work
from residency.training.algorithms.advantages import group_advantages
from residency.training.algorithms.find_algorithm import find_algorithm


@dataclass(frozen=True, kw_only=True)
class StepGroup:
    """One prompt's rollouts as a step trains on them. ``scores`` are what the algorithm is to see, [G] as the ids.

    ``traces_ref`` is the part that holds the traces, as it was written: rows enter the batch in the order of the step's
    parts, then in each part's own, so that the journal's keys and the parts give the same batch again.
    """

    key: str
    trace_ids: tuple[str, ...]
    scores: tuple[float | None, ...]
    traces_ref: Any


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """``kl_sum``: Σ over tokens of the sampler's log ratio to the reference (nats), where the recipe has KL in the
    reward, else None."""

    batch_ref: Any
    kl_sum: float | None


def permuted_scores(scores: Sequence[float | None], seed: int, key: str) -> tuple[float | None, ...]:
    """The control's rewards: a group's own numbers, dealt to its rollouts by chance, the same way each time."""
    return tuple(random.Random(f"permute/{seed}/{key}").sample(scores, len(scores)))


def known(trace_ids: Sequence[str], advantages: Sequence[float | None]) -> dict[str, float]:
    """Advantage by trace, of those that have one."""
    return {trace_id: value for trace_id, value in zip(trace_ids, advantages, strict=True) if value is not None}


async def build_step(crew: Crew, groups: Sequence[StepGroup]) -> StepBatch:
    """Advantages by the recipe's algorithm, the engine's own tokens and logprobs, and KL where it is in the reward.

    KL in the reward needs learners that hold the reference.
    """
    config = crew.recipe.rl
    algorithm = find_algorithm(config.algorithm)
    traces_refs = list(dict.fromkeys(group.traces_ref for group in groups))
    item_ids = list(dict.fromkeys(group.key.rpartition("/")[2] for group in groups))
    advantages: dict[str, float] = {}
    for group in groups:
        advantages |= known(group.trace_ids, group_advantages(algorithm, group.scores).advantages)
    batch_ref = await crew.encode_rollouts(traces_refs, advantages, item_ids)
    if config.kl is None or config.kl.place != "reward":
        return StepBatch(batch_ref=batch_ref, kl_sum=None)
    with learners_at_work():
        kl_of = await crew.learners.reference_kl(batch_ref, config.temperature, config.top_k, config.top_p)
    for group in groups:
        penalties = [config.kl.coefficient * kl_of.get(trace_id, 0.0) for trace_id in group.trace_ids]
        advantages |= known(group.trace_ids, group_advantages(algorithm, group.scores, penalties).advantages)
    batch_ref = await crew.encode_rollouts(traces_refs, advantages, item_ids)
    return StepBatch(batch_ref=batch_ref, kl_sum=math.fsum(kl_of.values()))
