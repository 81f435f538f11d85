"""Supervised fine-tuning: the warm-up, the SFT checkpoint up to its plateau, and SFT continued as a control."""

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.sampling import sample
from residency.platform.recipe import OptimizerConfig
from residency.platform.records import Item, PromptMode, Split
from residency.platform.sampling import SamplingConfig
from residency.training.losses import LossConfig

SFT_LOSS = LossConfig(kind="sft")


def batches(num_rows: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Row numbers of one batch after the other, epoch after epoch, each epoch shuffled; every row once an epoch.

    The last rows of an epoch and the first of the next share a batch, so that all batches are equally large.
    """
    rng, queue = random.Random(f"batches/{seed}"), list[int]()
    while True:
        while len(queue) < batch_size:
            epoch = list(range(num_rows))
            rng.shuffle(epoch)
            queue += epoch
        yield queue[:batch_size]
        queue = queue[batch_size:]


async def train_steps(
    crew: Crew, role: str, batch_ref: Any, rows: Iterator[list[int]], num_steps: int, first: int, advance: Any
) -> None:
    """``num_steps`` optimizer steps; metrics carry steps from ``first`` on."""
    learners = crew.learners
    for step in range(first, first + num_steps):
        loss = await learners.forward_backward(batch_ref, next(rows), SFT_LOSS)
        update = await learners.optim_step()
        crew.run.metric(
            role, step, {"loss": loss.loss, "learning_rate": update.learning_rate, "grad_norm": update.gradient_norm}
        )  # fmt: skip
        advance(1, f"loss {loss.loss:.3f}")


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
        await train_steps(crew, "pretrain", batch_ref, rows, config.pretraining_steps, 0, steps.advance)
    await crew.save_learners("base")


async def warm_up_stage(crew: Crew) -> None:
    """A separate checkpoint that can answer at all, trained on the annotations' rationales; SFT starts from base."""
    recipe = crew.recipe
    train = crew.dataset.split(Split.TRAIN)
    examples = await crew.synthesizer_call("write_rationales", crew.items_table(train), crew.seed)
    batch_ref = await crew.encode(examples)
    await crew.load_learners("base", recipe.sft.optimizer, recipe.synthesis.warm_up_steps)
    rows = batches(await crew.num_rows(batch_ref), recipe.sft.batch_size, crew.seed)
    with crew.screen.steps("warm-up of the student", recipe.synthesis.warm_up_steps, "steps") as steps:
        await train_steps(crew, "warm_up", batch_ref, rows, recipe.synthesis.warm_up_steps, 0, steps.advance)
    await crew.save_learners("warm_up")


async def sft_stage(crew: Crew) -> None:
    """SFT on the mixture from base; stops at its plateau on the tune split and keeps the best checkpoint."""
    config = crew.recipe.sft
    tune = crew.dataset.split(Split.TUNE)
    batch_ref = await crew.encode(crew.read_examples())
    await crew.load_learners("base", config.optimizer, config.max_steps)
    rows = batches(await crew.num_rows(batch_ref), config.batch_size, crew.seed)
    best, waited, step = -1.0, 0, 0
    with crew.screen.steps("supervised fine-tuning", config.max_steps, "steps") as steps:
        while step < config.max_steps and waited < config.patience:
            number = min(config.evaluate_every, config.max_steps - step)
            await train_steps(crew, "sft", batch_ref, rows, number, step, steps.advance)
            step += number
            await crew.publish_learners(f"sft@{step}")
            # the weights' digest: answers of another attempt's weights are no answers to this
            accuracy = await accuracy_on(crew, f"tune-sft-{step}-{crew.weights_digest}", tune)
            crew.run.metric("sft", step, {"tune_accuracy": accuracy})
            steps.advance(0, f"tune accuracy {accuracy:.3f}")
            waited = 0 if accuracy > best + config.min_gain else waited + 1
            if accuracy > best:
                best = accuracy
                await crew.save_learners("sft")
    crew.run.update_summary(
        sft={
            "steps": step,
            "best_tune_accuracy": best,
            "stopped": "plateau" if waited >= config.patience else "max_steps",
            "examples": await crew.num_rows(batch_ref),
        }
    )


PROBED_STEPS = 5  # from which the control's number of steps is told


async def continue_sft(crew: Crew, seconds: float, optimizer: OptimizerConfig) -> int:
    """The control: SFT goes on from the SFT checkpoint for as many seconds as RL took; returns its steps.

    It gets RL's learning rate and schedule over as many steps as will fit, so that it anneals as RL does; a few steps
    are timed first to know how many those are, and then forgotten.
    """
    batch_ref = await crew.encode(crew.read_examples())
    rows = batches(await crew.num_rows(batch_ref), crew.recipe.sft.batch_size, crew.seed + 1)
    await crew.load_learners("sft", optimizer, PROBED_STEPS)
    began = time.monotonic()
    await train_steps(crew, "sft_continued_probe", batch_ref, rows, PROBED_STEPS, 0, lambda *_: None)
    total = max(1, int(seconds / (time.monotonic() - began) * PROBED_STEPS))
    await crew.load_learners("sft", optimizer, total)
    step, began = 0, time.monotonic()
    with crew.screen.steps("control: SFT continued", total, "steps") as steps:
        while time.monotonic() - began < seconds:
            await train_steps(crew, "sft_continued", batch_ref, rows, 1, step, lambda *_: None)
            step += 1
            steps.advance(1)
    await crew.save_learners("sft_continued")
    return step
