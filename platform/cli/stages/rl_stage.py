"""Reinforcement learning with verifiable rewards: the synchronous loop, and the control with permuted rewards."""

import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.sampling import Sampled, is_past, key_of, refuse_faults, sample
from residency.platform.cli.stages.sft_stage import accuracy_on
from residency.platform.errors import RoleError
from residency.platform.journal.records import Dropped, Record, Restored, Trained
from residency.platform.journal.state import Stage
from residency.platform.recipe import RlConfig
from residency.platform.records import Item, PromptMode, Split
from residency.platform.sampling import SamplingConfig
from residency.training.algorithms.advantages import group_advantages
from residency.training.algorithms.find_algorithm import find_algorithm
from residency.training.losses import LossConfig


def permute_within_groups(scores_GT: list[list[float | None]], rng: random.Random) -> list[list[float | None]]:
    """The control's rewards: the same numbers in every group, dealt to its rollouts by chance."""
    return [rng.sample(scores, len(scores)) for scores in scores_GT]


def groups_of(batch: Sampled) -> tuple[list[str], list[list[str]], list[list[float | None]]]:
    """Item ids, trace ids and scores by group, in the order of the traces."""
    item_ids = batch.traces.column("item_id").to_pylist()
    trace_ids = batch.traces.column("id").to_pylist()
    score_of = dict(
        zip(batch.verdicts.column("trace_id").to_pylist(), batch.verdicts.column("score").to_pylist(), strict=True)
    )
    traces_by_item: dict[str, list[str]] = {}
    for item_id, trace_id in zip(item_ids, trace_ids, strict=True):
        traces_by_item.setdefault(item_id, []).append(trace_id)
    groups = list(traces_by_item.values())
    return list(traces_by_item), groups, [[score_of[trace_id] for trace_id in group] for group in groups]


def scored(trace_ids: Sequence[str], advantages: Sequence[float | None]) -> dict[str, float]:
    """Advantage by trace, of those that have one."""
    return {trace_id: value for trace_id, value in zip(trace_ids, advantages, strict=True) if value is not None}


def loss_config(config: RlConfig, max_new_tokens: int) -> LossConfig:
    """The recipe's RL as the learner is told it."""
    kl = config.kl if config.kl is not None and config.kl.place == "loss" else None
    return LossConfig(
        kind=config.algorithm,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        truncation=config.truncation,
        temperature=config.temperature,
        max_tokens=max_new_tokens,
        kl_estimator=kl.estimator if kl is not None else None,
        kl_coefficient=kl.coefficient if kl is not None else 0.0,
    )


async def rl_step(
    crew: Crew,
    role: str,
    purpose: str,
    step: int,
    items: Sequence[Item],
    loss: LossConfig,
    permute: random.Random | None,
    hand_on: bool,
) -> dict[str, float]:
    """One step: sample groups, judge, advantages, one optimizer step; its metrics. ``hand_on``: publish the weights.

    Groups that the journal holds as judged are not sampled again: after a restart their recorded tokens and logprobs
    are trained on once more, in order, until the weights are where they were.
    """
    config, began = crew.recipe.rl, time.monotonic()
    sampling = SamplingConfig(temperature=config.temperature, max_new_tokens=crew.recipe.student.max_new_tokens)
    batches = [
        batch
        async for batch in sample(
            crew, purpose, items, mode=PromptMode.THINK, num_samples=config.group_size, sampling=sampling
        )
    ]
    generated = time.monotonic()
    verdicts = pa.concat_tables([batch.verdicts for batch in batches])
    refuse_faults(sum(batch.num_faults for batch in batches), verdicts.num_rows, config.max_fault_ratio, f"step {step}")
    algorithm = find_algorithm(loss.kind)
    advantages: dict[str, float] = {}
    groups: list[tuple[list[str], list[float | None]]] = []  # trace ids and rewards of those that teach
    dropped: dict[str, str] = {}  # item → reason
    kept: list[str] = []
    for batch in batches:
        item_ids, trace_ids, scores = groups_of(batch)
        if permute is not None:
            scores = permute_within_groups(scores, permute)
        for item_id, group, rewards in zip(item_ids, trace_ids, scores, strict=True):
            result = group_advantages(algorithm, rewards)
            if result.zero_variance:
                dropped[item_id] = "all_right" if result.mean > 0.5 else "all_wrong"
                continue
            kept.append(f"{purpose}/{item_id}")
            groups.append((group, rewards))
            advantages |= scored(group, result.advantages)
    reasons = Counter(dropped.values())
    traces = pa.concat_tables([batch.traces for batch in batches])
    parts = [dict(value or {}) for value in verdicts.column("parts").to_pylist()]
    scores = np.array([np.nan if score is None else score for score in verdicts.column("score").to_pylist()])
    metrics = {
        "reward_mean": float(np.nanmean(scores)),
        "reward_std": float(np.nanstd(scores)),
        "accuracy": float(np.mean([part.get("accuracy", 0.0) for part in parts])),
        "format_valid": float(np.mean([part.get("format", 0.0) for part in parts])),
        "zero_variance_groups": float(len(dropped)),
        "groups_all_right": float(reasons["all_right"]),
        "groups_all_wrong": float(reasons["all_wrong"]),
        "response_length": float(np.mean([len(tokens) for tokens in traces.column("token_ids").to_pylist()])),
        "truncated": float(np.mean([reason == "length" for reason in traces.column("finish_reason").to_pylist()])),
        "rollouts": float(traces.num_rows),
        "generate_seconds": generated - began,
    }
    for reason, number in reasons.items():
        crew.run.event("groups_dropped", role=role, step=step, reason=reason, groups=number)
    keys = crew.journal.state.keys
    notes: list[Record] = [
        Dropped(key, reason)
        for item_id, reason in dropped.items()
        if keys[key := f"{purpose}/{item_id}"].stage is Stage.JUDGED  # not yet dropped before a restart
    ]
    if not advantages:
        await crew.journal.durable(*notes)
        if hand_on:
            await crew.publish_learners(f"{role}@{step + 1}")
        crew.run.event("step_skipped", role=role, step=step, cause="no group of the step had different rewards")
        return metrics
    traces_refs = [batch.traces_ref for batch in batches]
    batch_ref = await crew.encode_rollouts(traces_refs, advantages)
    kl: float | None = None
    if config.kl is not None and config.kl.place == "reward":
        kl_of = await crew.learners.reference_kl(batch_ref, config.temperature)
        for group, rewards in groups:
            penalties = [config.kl.coefficient * kl_of.get(trace_id, 0.0) for trace_id in group]
            advantages |= scored(group, group_advantages(algorithm, rewards, penalties).advantages)
        batch_ref = await crew.encode_rollouts(traces_refs, advantages)
        kl = math.fsum(kl_of.values())  # over tokens, once they are counted
    trained = await crew.learners.forward_backward(batch_ref, None, loss)
    if trained.mismatch > config.max_mismatch:
        raise RoleError(
            f"step {step}: sampler and trainer differ by {trained.mismatch:.2e} in mean logprob",
            f"at most {config.max_mismatch:.0e}",
            "look for stale weights, another dtype, truncation, or other image processing; or raise rl.max_mismatch",
        )
    update = await crew.learners.optim_step()
    trained_at = time.monotonic()
    version = await crew.learners.policy_version()
    await crew.journal.durable(*notes, Trained(tuple(kept), version.incarnation, version.step, role))
    if hand_on:
        await crew.publish_learners(f"{role}@{step + 1}")
    if config.kl is not None:
        metrics["kl"] = trained.kl if kl is None else kl / trained.num_tokens
    metrics |= {
        "loss": trained.loss,
        "entropy": trained.entropy,
        "ratio": trained.ratio,
        "clipped_share": trained.clipped_share,
        "mismatch_mean": trained.mismatch,
        "mismatch_max": trained.mismatch_max,
        "grad_norm": update.gradient_norm,
        "learning_rate": update.learning_rate,
        "train_seconds": trained_at - generated,
        "weights_seconds": time.monotonic() - trained_at,
        "staleness": 0.0,  # synchronous: the weights that sampled are the weights that learn
    }
    return metrics


async def train_with_rewards(
    crew: Crew, role: str, purpose: str, prompts: Sequence[str], steps_wanted: int, seconds: float | None
) -> dict[str, Any]:
    """The RL loop from the SFT checkpoint: ``steps_wanted`` steps, or as many as fit into ``seconds``.

    ``purpose`` names the groups in the journal; the role ``rl_permuted`` is the control whose rewards say nothing.
    """
    config = crew.recipe.rl
    items = {item.id: item for item in crew.dataset.split(Split.TRAIN)}
    loss = loss_config(config, crew.recipe.student.max_new_tokens)

    def drawn(step: int) -> list[Item]:
        start = step * config.prompts_per_step
        chosen = [prompts[(start + offset) % len(prompts)] for offset in range(config.prompts_per_step)]
        return [items[item_id] for item_id in dict.fromkeys(chosen)]

    def must_sample(step: int) -> bool:
        """Whether a generator is needed for the step, or for what comes after the last."""
        keys = [key_of(f"{purpose}-{step:04d}", item) for item in drawn(step)]
        return (seconds is None and step == steps_wanted) or not is_past(crew, keys, Stage.ANSWERED)

    await crew.load_learners("sft", config.optimizer, config.steps)
    if config.kl is not None:
        await crew.learners.hold_reference(crew.checkpoint("sft"))
    await crew.journal.durable(Restored(crew.incarnation, 0, 0, role))
    if must_sample(0):
        await crew.publish_learners(f"{role}@0")
    rng = random.Random(f"permute/{crew.seed}") if role == "rl_permuted" else None
    first, last, step, began, dropped = None, None, 0, time.monotonic(), Counter[str]()
    title = "control: permuted rewards" if rng is not None else "reinforcement learning"
    with crew.screen.steps(title, steps_wanted, "steps") as steps:
        while step < steps_wanted if seconds is None else time.monotonic() - began < seconds:
            metrics = await rl_step(
                crew, role, f"{purpose}-{step:04d}", step, drawn(step), loss, rng, must_sample(step + 1)
            )
            crew.run.metric(role, step, metrics)
            first, last = metrics if first is None else first, metrics
            dropped.update({name: int(metrics[f"groups_{name}"]) for name in ("all_right", "all_wrong")})
            step += 1
            steps.advance(1, f"reward {metrics['reward_mean']:.3f}")
    await crew.save_learners(role)
    return {
        "steps": step,
        "seconds": time.monotonic() - began,
        "first_reward": first["reward_mean"] if first else None,
        "last_reward": last["reward_mean"] if last else None,
        "staleness": {"max": 0},
        "dropped_groups": dict(dropped),
    }


async def rl_stage(crew: Crew) -> None:
    """RLVR on the prompts that the difficulty stage drew."""
    outcome = await train_with_rewards(crew, "rl", "rl", crew.read_prompts(), crew.recipe.rl.steps, None)
    tune = await accuracy_on(crew, f"tune-rl-{crew.weights_digest}", crew.dataset.split(Split.TUNE))
    crew.run.update_summary(rl=outcome | {"tune_accuracy": tune})
