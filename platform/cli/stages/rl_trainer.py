"""Learner, journal and publisher as the controller of reinforcement learning sees them: an optimizer step, whole."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from residency.actors.publisher import Published
from residency.platform.cli.crew import Crew
from residency.platform.cli.screen import Steps
from residency.platform.cli.stages.learner_restarts import LearnersLost, Restarts, learners_at_work
from residency.platform.cli.stages.mismatch_stop import diagnosed
from residency.platform.cli.stages.replaying import FIRST_CHECKPOINT, build_kept_step, recorded_groups
from residency.platform.cli.stages.rl_loss import loss_config
from residency.platform.cli.stages.rl_sampler import GroupTables
from residency.platform.cli.stages.step_batch import StepBatch, StepGroup
from residency.platform.journal.records import Dropped, Record, Restored, Trained
from residency.platform.journal.state import Stage
from residency.training.batch_stats import BatchStats, StepStats
from residency.training.mismatch.meter import budget, check_mismatch, fresh_mismatch
from residency.training.rl_metrics import (
    group_samples,
    learner_metrics,
    lengths_of,
    sample_metrics,
    speed_metrics,
    staleness_metrics,
    unit_of,
    weights_metrics,
)
from residency.training.rollouts.finished_group import FinishedGroup
from residency.training.rollouts.roles import LearnerLost, LeftOut, Restoration
from residency.training.step_checkpoints import keep_by_rule, last_steps, newest_whole, saved_steps, step_folder

Result = TypeVar("Result")


class RlTrainer:
    """``role`` is whose weights: ``rl`` or its control ``rl_permuted``. Steps count from 0; a step without a lesson
    counts too, so that a version's step is always the number of batches behind the weights."""

    def __init__(self, crew: Crew, role: str, purpose: str, counter: Steps) -> None:
        self._crew, self._role, self._purpose, self._counter = crew, role, purpose, counter
        self._config = crew.recipe.rl
        self._loss = loss_config(self._config, crew.recipe.student.max_new_tokens)
        self._budget = budget(self._config.max_mismatch, crew.profile.dtype)
        self._root = crew.checkpoint(f"{role}-steps")
        self._restarts = Restarts()
        self._lost: str | None = None  # why the learner is of no more use, found where nothing could be raised
        self._boundary = asyncio.Lock()  # held while the learner is between two step boundaries
        self.step = self.saved = 0
        """Batches behind the weights, and behind those of the newest checkpoint."""
        crew.idle.take()  # what was before is not ours
        self._window = time.monotonic()  # since idle time was last asked for
        self._rewards: list[float] = []  # of the steps since the last checkpoint
        self._best: tuple[float, int] | None = None  # mean reward and step of the best checkpoint
        self._update_metrics: dict[str, float] = {}
        self.first: dict[str, float] | None = None
        self.last: dict[str, float] | None = None
        self.stalest = 0

    @property
    def lost(self) -> str | None:
        return self._lost

    # beginning and going on -----------------------------------------------------------------------------------------

    async def begin(self) -> Restoration:
        """The learner group on the newest checkpoint that the journal knows; what the journal holds beyond it."""
        crew, config = self._crew, self._config
        name, parent, resume = self._newest()
        await crew.load_learners(name, config.optimizer, config.steps, lora=config.lora, resume=resume)
        return await self._stand_on(parent)

    async def recover(self, cause: str) -> Restoration:
        """The group anew, inside the job; raises the learner's own error after too many restarts at one checkpoint."""
        crew, config = self._crew, self._config
        async with self._boundary:
            lost = LearnersLost(cause)
            while True:
                name, parent, _ = self._newest()
                folder, cause = crew.checkpoint(name), self._restarts.note(parent[1], lost)
                self._lost = None
                try:
                    with learners_at_work():
                        await crew.restart_learners(folder, config.optimizer, config.steps, cause, lora=config.lora)
                        return await self._stand_on(parent)
                except LearnersLost as again:  # on a node that was dying, perhaps
                    lost = again

    def _newest(self) -> tuple[str, tuple[int, int], bool]:
        """Name and version of the newest whole checkpoint in the journal's ancestry, and whether it holds a state."""
        if self._role != "rl":
            return FIRST_CHECKPOINT, (0, 0), False  # a control has no checkpoints: all its seconds are to be its own
        known = {version for version, _ in self._crew.journal.state.learner(self._role).steps()}
        most: int | None = None
        while True:
            newest, damaged = newest_whole(self._root, most)
            for folder, cause in damaged.items():
                self._crew.event("checkpoint_damaged", role=self._role, checkpoint=folder.name, cause=cause)
            if newest is None:
                return FIRST_CHECKPOINT, (0, 0), False
            version = (int(newest.mapping["incarnation"]), newest.step)
            if version in known:
                if "best_step" in newest.mapping:
                    self._best = (newest.mapping["best_reward"], newest.mapping["best_step"])
                return str(newest.folder.relative_to(self._crew.run.checkpoints)), version, True
            most = newest.step - 1

    async def _stand_on(self, parent: tuple[int, int]) -> Restoration:
        """Journals where the group stands; the steps beyond are to be trained again, empty ones between them too."""
        crew, journal = self._crew, self._crew.journal
        ancestry, lost = journal.state.learner(self._role), dict[int, dict[str, None]]()
        if parent[1] < ancestry.settled:
            journal.recall()
        beyond = [(step, key) for (_, step), keys in ancestry.steps() if step > parent[1] for key in keys]
        for step, key in [*beyond, *((step, key) for key, (_, step) in ancestry.replay.items())]:
            if key.startswith(f"{self._purpose}-"):  # not those of a control's earlier attempt
                lost.setdefault(step, {})[key] = None
        await journal.durable(Restored(crew.incarnation, *parent, self._role))
        self.step = self.saved = parent[1]
        self._counter.stand_at(self.step)
        if self._config.kl is not None:
            await crew.learners.hold_reference(crew.checkpoint(FIRST_CHECKPOINT))
        last = max(lost, default=parent[1])
        batches = tuple(tuple(lost.get(step, ())) for step in range(parent[1] + 1, last + 1))
        return Restoration(step=parent[1], batches=batches)

    # training -------------------------------------------------------------------------------------------------------

    async def train(self, step: int, groups: Sequence[FinishedGroup], left_out: Sequence[LeftOut]) -> None:
        async with self._boundary:
            if self._lost is not None:
                raise LearnerLost(self._lost)
            await self._train(step, groups, left_out)

    async def _train(self, step: int, groups: Sequence[FinishedGroup], left_out: Sequence[LeftOut]) -> None:
        crew = self._crew
        keys = crew.journal.state.keys
        notes: list[Record] = [
            Dropped(each.group.key, each.reason)
            for each in left_out
            if keys[each.group.key].stage is Stage.JUDGED  # not yet dropped before a restart
        ]
        batch = [self._step_group(group) for group in groups]
        began = time.monotonic()
        learned = await self._learn(step, batch)
        version = await self._at_work(crew.learners.policy_version())
        await crew.journal.durable(
            *notes, Trained(tuple(group.key for group in groups), version.incarnation, version.step, self._role)
        )
        self.step = step + 1
        self._note(step, groups, left_out, learned, time.monotonic() - began)
        await self._keep()

    async def train_again(self, step: int, keys: Sequence[str]) -> None:
        """The same groups in the same order; the event says what it came to, to be compared with the metrics."""
        crew = self._crew
        groups = recorded_groups(crew.run, crew.journal.state, self._role, crew.seed, keys)
        async with self._boundary:
            learned = await self._learn(step, groups)
            version = await self._at_work(crew.learners.policy_version())
            await crew.journal.durable(Trained(tuple(keys), version.incarnation, version.step, self._role))
            self.step = step + 1
        found = {} if learned is None else {"loss": learned[0].loss, "grad_norm": learned[1].gradient_norm}
        crew.run.event("step_replayed", role=self._role, step=step, groups=len(keys), **found)
        self._counter.advance(1, "again")

    async def _learn(self, step: int, groups: Sequence[StepGroup]) -> tuple[BatchStats, StepStats, float | None] | None:
        """Forward, backward and the optimizer; None where there is nothing to learn from, and the step only counts."""
        crew = self._crew
        await self._at_work(crew.turns.give("learners"))
        with crew.idle.busy("learner", "group"):
            if not groups:
                await self._at_work(crew.learners.skip_step())
                crew.run.event("step_skipped", role=self._role, step=step, cause="no group had different rewards")
                return None
            batch = await self._at_work(build_kept_step(crew, self._role, groups), learners=False)
            trained = await self._at_work(crew.learners.forward_backward(batch.batch_ref, None, self._loss))
            await self._check(step, groups, batch, trained)
            update = await self._at_work(crew.learners.optim_step())
        kl = trained.kl if self._config.kl is not None else None
        return trained, update, kl if batch.kl_sum is None else batch.kl_sum / max(1, trained.num_tokens)

    async def _at_work(self, verb: Awaitable[Result], learners: bool = True) -> Result:
        """``learners``: whether any failure of it is theirs; else it says so itself."""
        try:
            with learners_at_work() if learners else nullcontext():
                return await verb
        except LearnersLost as error:
            raise LearnerLost(str(error)) from error

    async def _check(self, step: int, groups: Sequence[StepGroup], batch: StepBatch, trained: BatchStats) -> None:
        """Raises MismatchError, with its likely cause, before the optimizer learns from what is not to be trusted."""
        error = check_mismatch(trained, self._budget, step)
        if error is not None:
            measured = fresh_mismatch(trained) or math.nan
            raise await diagnosed(
                self._crew, self._role, step, groups, batch.batch_ref, self._loss, measured, self._budget, error
            )

    def _note(
        self,
        step: int,
        groups: Sequence[FinishedGroup],
        left_out: Sequence[LeftOut],
        learned: tuple[BatchStats, StepStats, float | None] | None,
        train_seconds: float,
    ) -> None:
        """The step's metrics, and what the run's summary will say of it."""
        crew, everyone = self._crew, [*groups, *(each.group for each in left_out)]
        tables: list[GroupTables] = [group.payload for group in everyone]
        # group by group: a prompt may come twice in a step
        samples = [sample for table in tables for sample in group_samples(table.traces, table.verdicts)]
        idle, now = crew.idle.take(), time.monotonic()
        window, self._window = now - self._window, now
        taught: list[GroupTables] = [group.payload for group in groups]
        metrics = {
            **sample_metrics(samples),
            **staleness_metrics([table.traces for table in taught], step, self._config.staleness),
            **speed_metrics(
                sum(int(lengths_of(table.traces).sum()) for table in tables),
                window * (1 - idle.get("idle_fraction_generator", 0.0)),
                learned[0].num_tokens if learned is not None else 0,
                train_seconds,
            ),
            **idle,
            **self._update_metrics,
            "step_seconds": window,
        }
        if learned is not None:
            metrics |= learner_metrics(*learned)
        crew.run.metric(self._role, step, metrics, {name: unit_of(name) for name in metrics})
        for reason, number in Counter(each.reason for each in left_out).items():
            crew.run.event("groups_dropped", role=self._role, step=step, reason=reason, groups=number)
        self.first, self.last = self.first or metrics, metrics
        self.stalest = max(self.stalest, int(metrics["staleness_max"]))
        self._rewards.append(metrics["reward_mean"])
        self._counter.advance(1, f"reward {metrics['reward_mean']:.3f}")

    async def keep_now(self, why_lost: str | None = None) -> bool:
        """A checkpoint at the next step boundary, unless the newest is of that step; whether all steps are in one then.

        ``why_lost``: the group is to be started anew after it.
        """
        async with self._boundary:
            if self.step != self.saved and self._role == "rl" and self._lost is None:
                await self._save()
            self._lost = self._lost or why_lost
            return self.step == self.saved

    async def _keep(self) -> None:
        """A checkpoint on the way, where it is due, or where the group must move.

        The step is journalled by now: a learner that dies in here is found dead by the next step.
        """
        if self._role != "rl" or self.step % self._crew.recipe.checkpoints.every or self.step >= self._config.steps:
            return
        await self._save()
        self._lost = self._lost or self._crew.why_learners_move()

    async def _save(self) -> None:
        """The last few are kept, and the one with the best rewards."""
        crew, step = self._crew, self.step
        best, reward = self._best, None
        if self._rewards:
            reward = sum(self._rewards) / len(self._rewards)
            best = best if best is not None and best[0] >= reward else (reward, step)
            self._rewards = []
        mapping = {"incarnation": crew.journal.state.learner(self._role).incarnation, "step": step, "reward": reward}
        if best is not None:
            mapping |= {"best_reward": best[0], "best_step": best[1]}
        folder = step_folder(self._root, step)
        try:
            await self._at_work(crew.learners.save_checkpoint(folder, mapping))
        except LearnerLost as lost:
            self._lost = lost.cause
            return
        self._best, self.saved, best_step = best, step, None if best is None else best[1]
        keep_last = crew.recipe.checkpoints.keep_last
        keep_by_rule(self._root, step, keep_last, best_step)
        crew.journal.settle(self._role, last_steps(saved_steps(self._root), step, keep_last)[0])
        crew.run.event("checkpoint_saved", role=self._role, step=step, reward=reward, best_step=best_step)

    # weights --------------------------------------------------------------------------------------------------------

    async def collect(self, step: int) -> Published:
        async with self._boundary:
            if self._lost is not None:
                raise LearnerLost(self._lost)
            return await self._at_work(self._crew.weights.collect(f"{self._role}@{step}"))

    async def distribute(self, weights: Published) -> int:
        began = time.monotonic()
        update = await self._crew.weights.distribute(weights, in_flight=self._config.staleness > 0)
        self._update_metrics = weights_metrics(update.num_bytes, update.seconds, time.monotonic() - began)
        return weights[0].version.step

    # the journal's other notes ----------------------------------------------------------------------------------------

    async def drop(self, group: FinishedGroup, reason: str) -> None:
        if self._crew.journal.state.keys[group.key].stage <= Stage.JUDGED:
            await self._crew.journal.durable(Dropped(group.key, reason))

    @staticmethod
    def _step_group(group: FinishedGroup) -> StepGroup:
        return StepGroup(
            key=group.key, trace_ids=group.trace_ids, scores=group.scores, traces_ref=group.payload.traces_ref
        )
