"""The one controller of reinforcement learning: asks for groups, batches them, has them trained on. Plain asyncio.

    controller = Controller(admission, sampler, trainer, prompts, screen, groups_per_call=1)
    await controller.run()

With η = 0 it is the synchronous loop: groups are asked once the newest weights are on the generators, and a step takes
all of them. With η > 0 the generators never wait for the learner as long as there is room under the bound, weights go
to them while they generate, and a step takes whatever has finished; what is oldest comes first, and only a group that
no later step could take is waited for.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from residency.training.rollouts.admission import Admission
from residency.training.rollouts.finished_group import Call, FinishedGroup
from residency.training.rollouts.roles import LearnerLost, LeftOut, Sampler, Trainer

MOST_REFILLS = 10  # groups without variance that one step may cost, as a multiple of those it takes

Prompts = Callable[[int], tuple[str, ...]]
Screen = Callable[[FinishedGroup], str | None]


@dataclass(eq=False, slots=True)
class _Flight:
    """A call under way, and the step of the oldest weights that may have sampled a token of it."""

    call: Call
    step: int | None = None


class Controller:
    """``prompts(number)`` gives the item ids of a call, ``groups_per_call`` or fewer, always the same ones.

    ``screen`` says why a group teaches nothing. Without ``refill`` such a group is used up by a step all the same; with
    it, it is dropped at once and another is asked (dynamic sampling, DAPO, arXiv 2503.14476, §3.2). ``ends`` is asked
    before each step whether to stop there. When all is done the last weights are on the generators.
    """

    def __init__(
        self,
        admission: Admission,
        sampler: Sampler,
        trainer: Trainer,
        prompts: Prompts,
        screen: Screen,
        *,
        groups_per_call: int = 1,
        refill: bool = False,
        ends: Callable[[], bool] | None = None,
    ) -> None:
        self._admission, self._sampler, self._trainer = admission, sampler, trainer
        self._prompts, self._screen = prompts, screen
        self._groups_per_call, self._refill, self._ends = groups_per_call, refill, ends
        self.step = 0
        self.dropped: Counter[str] = Counter()
        self._served = 0  # the oldest weights on any generator are those of this step
        self._next_call = 0
        self._in_training = 0  # groups that the present step has taken
        self._refilled = 0  # groups that this step has cost beyond those that it takes
        self._flights: dict[asyncio.Task[Sequence[FinishedGroup]], _Flight] = {}
        self._landed: list[asyncio.Task[Sequence[FinishedGroup]]] = []
        self._begun: Counter[int] = Counter()  # step of the oldest weights → groups that are being sampled
        self._num_asked = 0  # groups that have not come back
        self._finished: list[FinishedGroup] = []
        self._reasons: dict[str, str] = {}  # key → why a finished group teaches nothing
        self._again: deque[tuple[str, ...]] = deque()  # keys of each step that is to be trained again
        self._update: asyncio.Task[int] | None = None
        self._news = asyncio.Event()

    async def run(
        self,
        *,
        step: int = 0,
        again: Sequence[tuple[str, ...]] = (),
        calls: Sequence[Call] = (),
        next_call: int = 0,
    ) -> None:
        """All steps from ``step`` on. A run that goes on gives ``again``, the batches that were journalled and are not
        in the weights, ``calls``, those whose groups no step has consumed, and ``next_call``, the first new number.

        Raises what a role raises; nothing is under way then.
        """
        self.step, self._next_call = step, next_call
        self._again.extend(again)
        try:
            await self._train_again()
            self._served = await self._trainer.distribute(await self._collect())
            for call in calls:  # of any age: as old as may be, so that they are waited for
                self._begin(call, self.step - self._admission.staleness)
            while self.step < self._admission.num_steps and not (self._ends is not None and self._ends()):
                await self._train(await self._next_batch())
            await self._forget(lambda _: True, "surplus")
            if self._update is not None:
                await self._arrive(self._update)
        finally:
            await self._end_all()

    # asking ---------------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """As many calls as the bound has room for."""
        while self._room() >= self._groups_per_call:
            number = self._next_call
            self._next_call += 1
            self._begin(Call(number=number, item_ids=self._prompts(number)), None)

    def _room(self) -> int:
        under_way = self._in_training + len(self._finished) + self._num_asked
        return self._admission.room(self.step, self._served, under_way)

    def _begin(self, call: Call, step: int | None) -> None:
        """``step`` is of the oldest weights that may have sampled a token of it; None before there is one."""
        flight = _Flight(call)

        def begins() -> None:
            self._move(flight, self._served)

        task = asyncio.ensure_future(self._sampler.sample(call, begins))
        self._flights[task] = flight
        self._num_asked += len(call.item_ids)
        self._move(flight, step)
        task.add_done_callback(self._has_landed)

    def _move(self, flight: "_Flight", step: int | None) -> None:
        """The flight counts among those whose oldest weights are of this step."""
        for number, sign in ((flight.step, -1), (step, 1)):
            if number is not None:
                self._begun[number] += sign * len(flight.call.item_ids)
        flight.step = step

    def _has_landed(self, task: "asyncio.Task[Sequence[FinishedGroup]]") -> None:
        self._landed.append(task)
        self._news.set()

    def _end(self, task: "asyncio.Task[Sequence[FinishedGroup]]") -> Call:
        """It is under way no more."""
        flight = self._flights.pop(task)
        self._move(flight, None)
        self._num_asked -= len(flight.call.item_ids)
        return flight.call

    async def _land(self) -> None:
        """Take in what has come back: dropped at once, or kept until a step consumes it."""
        landed, self._landed = self._landed, []
        for flight in landed:
            if flight not in self._flights:
                continue  # given up before
            self._end(flight)
            for group in flight.result():
                if self._admission.is_too_old(self.step, group.oldest_step):
                    await self._drop(group, "too_stale")
                elif (reason := self._screen(group)) is None:
                    self._finished.append(group)
                elif self._refill and self._refilled < MOST_REFILLS * self._admission.groups_per_step:
                    self._refilled += 1
                    await self._drop(group, reason)
                else:
                    self._reasons[group.key] = reason
                    self._finished.append(group)

    async def _drop(self, group: FinishedGroup, reason: str) -> None:
        self.dropped[reason] += 1
        await self._trainer.drop(group, reason)

    # batching -------------------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """What is to be done whenever something has come: take it in, and ask for more."""
        self._news.clear()
        await self._land()
        if self._update is not None and self._update.done():
            self._served, self._update = self._update.result(), None
        self._ask()

    async def _next_batch(self) -> list[FinishedGroup]:
        """The groups of the next step, oldest first. Each wait ends because what is under way has a deadline."""
        await self._tend()
        while not self._is_full():
            await self._news.wait()
            await self._replace_lost()
            await self._tend()
        size = self._admission.groups_per_step
        self._finished.sort(key=lambda group: group.oldest_step)  # stable: of one age the first to come
        groups, self._finished = self._finished[:size], self._finished[size:]
        return groups

    def _is_full(self) -> bool:
        """Whether the step can begin: enough has finished, and the rest finds room in the steps that may take it."""
        if len(self._finished) >= self._admission.groups_per_step:
            finished = Counter(group.oldest_step for group in self._finished)
            return self._admission.oversample > 1 or self._admission.is_safe(self.step, finished, self._begun)
        return not self._flights and self._update is None and self._room() < self._groups_per_call

    # training -------------------------------------------------------------------------------------------------------

    async def _train(self, groups: list[FinishedGroup]) -> None:
        """One step; meanwhile what comes is taken in, and more is asked."""
        teach = [group for group in groups if group.key not in self._reasons]
        left_out = [
            LeftOut(group=group, reason=self._reasons.pop(group.key)) for group in groups if group.key in self._reasons
        ]
        self._in_training = len(groups)
        while True:
            step = asyncio.ensure_future(self._trainer.train(self.step, teach, left_out))
            step.add_done_callback(lambda _: self._news.set())
            try:
                while not step.done():
                    await self._tend()
                    await self._news.wait()
                step.result()
                break
            except LearnerLost as lost:
                await self._recover(lost.cause)
            finally:
                step.cancel()
                await asyncio.wait((step,))
        self.dropped.update(each.reason for each in left_out)
        self.step, self._refilled, self._in_training = self.step + 1, 0, 0
        await self._forget(self._is_too_old, "too_stale")
        await self._hand_over()

    async def _forget(self, wanted: Callable[[int | None], bool], reason: str) -> None:
        """Let go of what no step will consume, by the step of the oldest weights behind it."""
        for group in [each for each in self._finished if wanted(each.oldest_step)]:
            self._finished.remove(group)
            self._reasons.pop(group.key, None)
            await self._drop(group, reason)
        for flight in [task for task, flight in self._flights.items() if wanted(flight.step)]:
            call = self._end(flight)
            flight.cancel()
            await asyncio.wait((flight,))
            self.dropped[reason] += len(call.item_ids)
            await self._sampler.give_up(call, reason)

    def _is_too_old(self, sampled: int | None) -> bool:
        return sampled is not None and self._admission.is_too_old(self.step, sampled)

    async def _hand_over(self) -> None:
        """The newest weights to the generators; the learner does not wait for their arrival where η allows."""
        if self._update is not None:
            await self._arrive(self._update)
        weights = await self._collect()
        self._update = asyncio.ensure_future(self._trainer.distribute(weights))
        self._update.add_done_callback(lambda _: self._news.set())
        if self._admission.staleness == 0:
            await self._arrive(self._update)

    async def _arrive(self, update: "asyncio.Task[int]") -> None:
        """The update is over. What lands meanwhile is taken in later."""
        while not update.done():
            self._news.clear()
            await self._replace_lost()
            if not update.done():
                await self._news.wait()
        self._served, self._update = update.result(), None

    async def _collect(self) -> Any:
        while True:
            try:
                return await self._trainer.collect(self.step)
            except LearnerLost as lost:
                await self._recover(lost.cause)

    # recovering -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Something has changed that is not a role's answer: ``Trainer.lost``."""
        self._news.set()

    async def _replace_lost(self) -> None:
        """A learner that was found dead while nothing was asked of it: a generator that joins may wait for its weights,
        and everything else for that generator."""
        if (cause := self._trainer.lost) is not None:
            await self._recover(cause)

    async def _recover(self, cause: str) -> None:
        """A new learner comes to where the lost one was, by the batches that the journal holds; then the run goes on.

        Nothing new is asked meanwhile; what is under way goes on, under weights that the new learner will have again.
        """
        wanted = self.step
        restored = await self._trainer.recover(cause)
        self.step = restored.step
        self._again.extend(restored.batches)
        await self._train_again()
        assert self.step == wanted, f"restored to step {self.step}, not {wanted}"

    async def _train_again(self) -> None:
        while self._again:
            try:
                await self._trainer.train_again(self.step, self._again[0])
            except LearnerLost as lost:
                self._again.clear()
                restored = await self._trainer.recover(lost.cause)
                self.step = restored.step
                self._again.extend(restored.batches)
                continue
            self._again.popleft()
            self.step += 1

    async def _end_all(self) -> None:
        tasks = [*self._flights, *([self._update] if self._update is not None else [])]
        self._flights.clear()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):  # the first error is on its way up already
                await task
