"""Supervised fine-tuning: the warm-up, the SFT checkpoint up to its plateau, and SFT continued as a control.

SFT goes on from the newest whole step checkpoint, whether its driver or a learner rank was lost. A repeated step whose
metrics are those of the first time, bit for bit, is not written again; one that differs is written as a second line and
named by the event ``repeated_step_differs``.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.learner_restarts import LearnersLost, Restarts, learners_at_work
from residency.platform.cli.stages.sampling import sample
from residency.platform.recipe import OptimizerConfig, SftConfig
from residency.platform.records import Item, PromptMode, Split
from residency.platform.report.run_files import read_lines
from residency.platform.sampling import SamplingConfig
from residency.training.losses import LossConfig
from residency.training.sft_batches import batches, length_grouped_batches
from residency.training.step_checkpoints import keep_by_rule, newest_whole, step_folder
from residency.training.training_batch import BatchReader

Write = Callable[[int, Mapping[str, float]], None]  # (step, metrics)
SFT_LOSS = LossConfig(kind="sft")
STEP_CHECKPOINTS = "sft-steps"  # below the run's checkpoints


class StepMetrics:
    """Writes a role's metrics of each step; knows what an earlier attempt at the run has written."""

    def __init__(self, crew: Crew, role: str) -> None:
        self._crew, self._role = crew, role
        self._written: dict[tuple[int, str], float] = {
            (row["step"], row["name"]): row["value"]
            for row in read_lines(crew.run.path / "metrics.jsonl")
            if row["role"] == role
        }

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """New values, and those of a repeated step that differ from what was written last."""
        before = {name: self._written[step, name] for name in values if (step, name) in self._written}
        differing = {name: value for name, value in before.items() if value != values[name]}
        if differing:
            again = {name: values[name] for name in differing}
            self._crew.event("repeated_step_differs", role=self._role, step=step, first=differing, again=again)
        fresh = {name: value for name, value in values.items() if name not in before or name in differing}
        self._crew.run.metric(self._role, step, fresh)
        self._written |= {(step, name): value for name, value in values.items()}


async def train_steps(
    crew: Crew, write: Write, batch_ref: Any, rows: Iterator[list[int]], num_steps: int, first: int, advance: Any
) -> int:
    """``num_steps`` optimizer steps, or as many as ``rows`` has; how many. Metrics carry steps from ``first`` on."""
    step = first
    await crew.turns.give("learners")
    async with aclosing(crew.learners.train_steps(batch_ref, islice(rows, num_steps), SFT_LOSS)) as steps:
        async for loss, update in steps:
            write(step, {"loss": loss.loss, "learning_rate": update.learning_rate, "grad_norm": update.gradient_norm})
            advance(1, f"loss {loss.loss:.3f}")
            step += 1
    return step - first


async def lengths_of(crew: Crew, batch_ref: Any) -> list[int]:
    """Tokens of each row of a training batch."""
    return BatchReader(await crew.fetch(batch_ref, "a training batch")).lengths.tolist()


def rows_of(config: SftConfig, lengths: Sequence[int], seed: int, first: int = 0) -> Iterator[list[int]]:
    """The recipe's batches, from step ``first`` on."""
    if config.length_grouped:
        return length_grouped_batches(lengths, config.batch_size, seed, first)
    return batches(len(lengths), config.batch_size, seed, first)


async def accuracy_on(crew: Crew, purpose: str, items: Sequence[Item]) -> float:
    """Greedy think-mode accuracy of what is on the generators."""
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=crew.recipe.student.max_new_tokens)
    right, asked = 0.0, 0
    async for batch in sample(crew, purpose, items, mode=PromptMode.THINK, num_samples=1, sampling=sampling):
        right += sum(dict(parts or {}).get("accuracy", 0.0) for parts in batch.verdicts.column("parts").to_pylist())
        asked += batch.verdicts.num_rows
    return right / max(asked, 1)


async def pretrain_stage(crew: Crew) -> None:
    """The tiny student's stand-in for a real base's pretraining: bare answers only, so it sees but cannot reason."""
    config, train = crew.recipe.student, crew.dataset.split(Split.TRAIN)
    examples = await crew.synthesizer_call("write_direct", crew.items_table(train))
    batch_ref = await crew.encode(examples, "initial")
    await crew.load_learners("initial", crew.recipe.sft.optimizer, config.pretraining_steps)
    rows = batches(await crew.num_rows(batch_ref), crew.recipe.sft.batch_size, crew.seed)
    with crew.screen.steps("pretraining the student", config.pretraining_steps, "steps") as steps:
        await train_steps(
            crew, partial(crew.run.metric, "pretrain"), batch_ref, rows, config.pretraining_steps, 0, steps.advance
        )
    await crew.save_learners("base")


async def warm_up_stage(crew: Crew) -> None:
    """A separate checkpoint that can answer at all, trained on the annotations' rationales; SFT starts from base."""
    recipe = crew.recipe
    train = crew.dataset.split(Split.TRAIN)
    examples = await crew.synthesizer_call("write_rationales", crew.items_table(train), crew.seed)
    batch_ref = await crew.encode(examples)
    await crew.load_learners("base", recipe.sft.optimizer, recipe.synthesis.warm_up_steps, lora=recipe.sft.lora)
    rows = batches(await crew.num_rows(batch_ref), recipe.sft.batch_size, crew.seed)
    with crew.screen.steps("warm-up of the student", recipe.synthesis.warm_up_steps, "steps") as steps:
        await train_steps(
            crew, partial(crew.run.metric, "warm_up"), batch_ref, rows, recipe.synthesis.warm_up_steps, 0, steps.advance
        )
    await crew.save_learners("warm_up")


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far SFT is, as its step checkpoints carry it. ``waited``: looks at the tune split since the last gain."""

    step: int = 0
    best: float = -1.0  # tune accuracy
    best_step: int = 0
    waited: int = 0

    def looked(self, accuracy: float, min_gain: float) -> Self:
        """After a look at the tune split."""
        waited = 0 if accuracy > self.best + min_gain else self.waited + 1
        if accuracy > self.best:
            return replace(self, best=accuracy, best_step=self.step, waited=waited)
        return replace(self, waited=waited)

    def is_over(self, config: SftConfig) -> bool:
        return self.step >= config.max_steps or self.waited >= config.patience

    def next_stop(self, config: SftConfig, every: int) -> int:
        """The next step at which a checkpoint is saved: each ``every``, each look at the tune split, and the last."""
        return min(config.max_steps, *((self.step // stride + 1) * stride for stride in (every, config.evaluate_every)))

    def looks_here(self, config: SftConfig) -> bool:
        return self.step % config.evaluate_every == 0 or self.step == config.max_steps


async def newest_progress(crew: Crew) -> Progress:
    """Of the newest whole step checkpoint, else the start; each damaged one that is passed over is an event."""
    found, damaged = await asyncio.to_thread(newest_whole, crew.checkpoint(STEP_CHECKPOINTS))
    for folder, cause in damaged.items():
        crew.event("checkpoint_damaged", checkpoint=f"{STEP_CHECKPOINTS}/{folder.name}", cause=cause)
    return Progress(**found.mapping) if found is not None else Progress()


def source_of(progress: Progress) -> str:
    """The checkpoint of the run that this progress goes on from."""
    return str(step_folder(Path(STEP_CHECKPOINTS), progress.step)) if progress.step else "base"


async def train_to_next_stop(
    crew: Crew, progress: Progress, batch_ref: Any, rows: Iterator[list[int]], metrics: StepMetrics, advance: Any
) -> Progress:
    """Train, look at the tune split where it is time, and save: what is returned is on disk."""
    config, kept = crew.recipe.sft, crew.recipe.checkpoints
    stop = progress.next_stop(config, kept.every)
    with learners_at_work():
        wanted, rows = stop - progress.step, until_told(crew, rows)
        done = await train_steps(crew, metrics.write, batch_ref, rows, wanted, progress.step, advance)
    now = replace(progress, step=progress.step + done)
    if done and now.looks_here(config):
        with learners_at_work():
            await crew.publish_learners(f"sft@{stop}")
        # the weights' digest: answers of another attempt's weights are no answers to this
        accuracy = await accuracy_on(crew, f"tune-sft-{stop}-{crew.weights_digest}", crew.dataset.split(Split.TUNE))
        metrics.write(stop, {"tune_accuracy": accuracy})
        advance(0, f"tune accuracy {accuracy:.3f}")
        now = now.looked(accuracy, config.min_gain)
    with learners_at_work():
        if done and now.best_step == now.step:
            await crew.save_learners("sft")
        if done:
            await crew.save_learners(source_of(now), state=asdict(now))
    best = now.best_step
    await asyncio.to_thread(keep_by_rule, crew.checkpoint(STEP_CHECKPOINTS), now.step, kept.keep_last, best)
    if crew.notices.stopping is not None:
        raise crew.notices.stopped(f"supervised fine-tuning has saved step {now.step}")
    if not now.is_over(config) and (cause := crew.why_learners_move()) is not None:
        raise LearnersLost(cause)
    return now


def until_told(crew: Crew, rows: Iterator[list[int]]) -> Iterator[list[int]]:
    """The batches, until the learners are to save before their next step: to end, or to move."""
    while crew.notices.stopping is None and not crew.notices.leaving.keys() & set(crew.learners.nodes):
        yield from islice(rows, 1)


async def restart(crew: Crew, restarts: Restarts, lost: LearnersLost) -> Progress:
    """The learner group anew, where its newest whole checkpoint left it; raises what was lost where that is in vain."""
    config = crew.recipe.sft
    while True:
        progress = await newest_progress(crew)
        cause = restarts.note(progress.step, lost)
        try:
            with learners_at_work():
                folder = crew.checkpoint(source_of(progress))
                await crew.restart_learners(folder, config.optimizer, config.max_steps, cause, lora=config.lora)
        except LearnersLost as again:
            lost = again
        else:
            return progress


async def sft_stage(crew: Crew) -> None:
    """SFT on the mixture from base; stops at its plateau on the tune split and keeps the best checkpoint."""
    config = crew.recipe.sft
    batch_ref = await crew.encode(crew.read_examples())
    lengths = await lengths_of(crew, batch_ref)
    progress, restarts, metrics = await newest_progress(crew), Restarts(), StepMetrics(crew, "sft")
    if progress.step:
        crew.run.event("sft_resumed", step=progress.step, checkpoint=source_of(progress))
    if not progress.is_over(config):
        await crew.load_learners(
            source_of(progress), config.optimizer, config.max_steps, lora=config.lora, resume=progress.step > 0
        )
    rows = rows_of(config, lengths, crew.seed, progress.step)
    with crew.screen.steps("supervised fine-tuning", config.max_steps, "steps") as steps:
        steps.stand_at(progress.step)
        while not progress.is_over(config):
            try:
                with crew.notices.heeded():
                    progress = await train_to_next_stop(crew, progress, batch_ref, rows, metrics, steps.advance)
            except LearnersLost as lost:
                progress = await restart(crew, restarts, lost)
                rows = rows_of(config, lengths, crew.seed, progress.step)
                steps.stand_at(progress.step)
    crew.run.update_summary(
        sft={
            "steps": progress.step,
            "best_tune_accuracy": progress.best,
            "best_step": progress.best_step,
            "stopped": "plateau" if progress.waited >= config.patience else "max_steps",
            "examples": len(lengths),
        }
    )


PROBED_STEPS = 5  # from which the control's number of steps is told


async def continue_sft(crew: Crew, seconds: float, optimizer: OptimizerConfig) -> int:
    """The control: SFT goes on from the SFT checkpoint for as many seconds as RL took; returns its steps.

    It gets RL's learning rate, schedule and adapters over as many steps as will fit, so that it anneals as RL does; a
    few steps are timed first to know how many those are, and then forgotten.
    """
    batch_ref, lora = await crew.encode(crew.read_examples()), crew.recipe.rl.lora
    rows = rows_of(crew.recipe.sft, await lengths_of(crew, batch_ref), crew.seed + 1)
    await crew.load_learners("sft", optimizer, PROBED_STEPS, lora=lora)
    began = time.monotonic()
    await train_steps(
        crew, partial(crew.run.metric, "sft_continued_probe"), batch_ref, rows, PROBED_STEPS, 0, lambda *_: None
    )
    total = max(1, int(seconds / (time.monotonic() - began) * PROBED_STEPS))
    await crew.load_learners("sft", optimizer, total, lora=lora)
    step, began = 0, time.monotonic()
    with crew.screen.steps("control: SFT continued", total, "steps") as steps:
        while time.monotonic() - began < seconds:
            await train_steps(
                crew, partial(crew.run.metric, "sft_continued"), batch_ref, rows, 1, step, lambda *_: None
            )
            step += 1
            steps.advance(1)
    await crew.save_learners("sft_continued")
    return step
