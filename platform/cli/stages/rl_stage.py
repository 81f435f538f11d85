"""Reinforcement learning with verifiable rewards, and its control with permuted rewards: the controller at work."""

import asyncio
import re
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.rl_sampler import RlSampler
from residency.platform.cli.stages.rl_trainer import RlTrainer
from residency.platform.cli.stages.sft_stage import accuracy_on
from residency.platform.journal.state import JournalState, Stage
from residency.platform.records import Split
from residency.training.algorithms.advantages import group_advantages
from residency.training.algorithms.find_algorithm import find_algorithm
from residency.training.rollouts.admission import Admission
from residency.training.rollouts.controller import Controller
from residency.training.rollouts.finished_group import Call, FinishedGroup

ENDLESS = 1 << 30  # steps, where seconds end it


class GroupScreen:
    """Says why a group teaches nothing: its rewards are all equal, or our own verifier left it without two of them."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = find_algorithm(algorithm)

    def __call__(self, group: FinishedGroup) -> str | None:
        if sum(score is not None for score in group.scores) < 2:
            return "unscored"
        result = group_advantages(self._algorithm, group.scores)
        if not result.zero_variance:
            return None
        return "too_easy" if result.mean > 0.5 else "too_hard"


@dataclass(frozen=True, kw_only=True)
class PromptOrder:
    """Which prompts a call asks, by its number alone: the list in turns, an item once a call."""

    item_ids: Sequence[str]
    per_call: int

    def __call__(self, number: int) -> tuple[str, ...]:
        first = number * self.per_call
        chosen = (self.item_ids[(first + offset) % len(self.item_ids)] for offset in range(self.per_call))
        return tuple(dict.fromkeys(chosen))


def open_calls(state: JournalState, role: str, purpose: str, order: PromptOrder) -> tuple[list[Call], int]:
    """Calls of former drivers with groups that no step has used up, and the first number that is new."""
    named, replay = re.compile(rf"{re.escape(purpose)}-(\d{{4,}})/"), state.learner(role).replay
    newest, pending = -1, set[int]()
    for key, progress in state.keys.items():
        if (match := named.match(key)) is not None:
            newest = max(newest, number := int(match[1]))
            if progress.stage < Stage.TRAINED and key not in replay:
                pending.add(number)
    return [Call(number=number, item_ids=order(number)) for number in sorted(pending)], newest + 1


async def train_with_rewards(
    crew: Crew, role: str, purpose: str, prompts: Sequence[str], steps_wanted: int, seconds: float | None
) -> dict[str, Any]:
    """The RL loop from the SFT checkpoint: ``steps_wanted`` steps, or as many as fit into ``seconds``.

    ``purpose`` names the groups in the journal; the role ``rl_permuted`` is the control whose rewards say nothing.
    """
    config = crew.recipe.rl
    items = {item.id: item for item in crew.dataset.split(Split.TRAIN)}
    order = PromptOrder(item_ids=prompts, per_call=1 if config.group_by_group else config.prompts_per_step)
    began = time.monotonic()
    title = "control: permuted rewards" if role == "rl_permuted" else "reinforcement learning"
    with crew.screen.steps(title, steps_wanted, "steps") as counter:
        trainer = RlTrainer(crew, role, purpose, counter)
        controller = Controller(
            Admission(
                groups_per_step=config.prompts_per_step,
                staleness=config.staleness,
                num_steps=steps_wanted if seconds is None else ENDLESS,
                oversample=config.oversample,
            ),
            RlSampler(crew, role, purpose, items),
            trainer,
            order,
            GroupScreen(config.algorithm),
            groups_per_call=order.per_call,
            refill=config.refill,
            ends=None if seconds is None else lambda: time.monotonic() - began >= seconds,
        )
        start = await trainer.begin()
        calls, next_call = open_calls(crew.journal.state, role, purpose, order)
        work = controller.run(step=start.step, again=start.batches, calls=calls, next_call=next_call)
        with crew.notices.heeded():
            await heed(crew, trainer, controller, work)
    await crew.weights.settle()
    await crew.save_learners(role)
    return {
        "steps": controller.step,
        "seconds": time.monotonic() - began,
        "first_reward": trainer.first["reward_mean"] if trainer.first else None,
        "last_reward": trainer.last["reward_mean"] if trainer.last else None,
        "staleness": {"bound": config.staleness, "max": trainer.stalest},
        "dropped_groups": dict(controller.dropped),
    }


async def heed(crew: Crew, trainer: RlTrainer, controller: Controller, work: Coroutine[Any, Any, None]) -> None:
    """The controller at work, until it is done or the run is told to stop: then the learner saves between two steps.

    Saved as well is a learner that must move; the next step finds it lost, and another goes on elsewhere.
    """
    running, moving = asyncio.ensure_future(work), ""
    try:
        while not running.done():
            news = asyncio.ensure_future(crew.notices.news())
            await asyncio.wait((running, news), return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            if running.done():
                break
            if crew.notices.stopping is not None:
                if await trainer.keep_now():
                    raise crew.notices.stopped(f"all its {trainer.step} steps are in its newest checkpoint")
                raise crew.notices.stopped(f"it goes on from step {trainer.saved} of {trainer.step}, by its journal")
            if (cause := crew.why_learners_move()) is not None and cause != moving:
                moving = cause
                await trainer.keep_now(cause)
                controller.look()
        await running
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def rl_stage(crew: Crew) -> None:
    """RLVR on the prompts that the difficulty stage drew."""
    outcome = await train_with_rewards(crew, "rl", "rl", crew.read_prompts(), crew.recipe.rl.steps, None)
    tune = await accuracy_on(crew, f"tune-rl-{crew.weights_digest}", crew.dataset.split(Split.TUNE))
    crew.run.update_summary(rl=outcome | {"tune_accuracy": tune})
