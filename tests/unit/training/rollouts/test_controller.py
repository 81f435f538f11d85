"""The controller with simulated roles and a simulated clock: bound, order, streaming, filtering, recovery."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from residency.platform.clock import SimulatedClock
from residency.training.rollouts.admission import Admission
from residency.training.rollouts.controller import MOST_REFILLS, Controller
from residency.training.rollouts.finished_group import Call, FinishedGroup
from residency.training.rollouts.roles import LearnerLost, LeftOut, Restoration


@dataclass
class Bench:
    """Generators that take as many calls as there are, and a trainer; all that happens is noted."""

    clock: SimulatedClock
    seconds_of: Any  # call number → seconds
    train_seconds: float = 1.0
    update_seconds: float = 0.2
    served: int = -1
    running: dict[int, set[int]] = field(default_factory=dict)  # call → steps of the weights that sampled it so far
    asked: list[int] = field(default_factory=list)
    trained: list[tuple[int, list[str]]] = field(default_factory=list)
    again: list[tuple[int, list[str]]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    given_up: list[int] = field(default_factory=list)
    staleness: Counter[int] = field(default_factory=Counter)
    dies_at: list[int] = field(default_factory=list)
    lost: str | None = None
    checkpoint: int = 0
    waited: float = 0.0
    idle_since: float = 0.0

    async def sample(self, call: Call, begins: Callable[[], None]) -> Sequence[FinishedGroup]:
        self.asked.append(call.number)
        begins()
        steps = self.running[call.number] = {self.served}
        try:
            await self.clock.sleep(self.seconds_of(call.number))
        finally:
            del self.running[call.number]
        tokens = dict.fromkeys(sorted(steps), 10)
        return [
            FinishedGroup(
                key=f"{call.number}/{item}", item_id=item, trace_ids=(), scores=(0.0, 1.0), token_steps=tokens
            )
            for item in call.item_ids
        ]

    async def give_up(self, call: Call, reason: str) -> None:
        self.given_up.append(call.number)

    async def train(self, step: int, groups: Sequence[FinishedGroup], left_out: Sequence[LeftOut]) -> None:
        self.waited += self.clock.monotonic() - self.idle_since
        await self.clock.sleep(self.train_seconds / 2)
        if step in self.dies_at:
            self.dies_at.remove(step)
            raise LearnerLost("killed")
        await self.clock.sleep(self.train_seconds / 2)
        for group in groups:
            for behind, tokens in group.staleness(step).items():
                self.staleness[behind] += tokens
        self.left_out += [f"{each.reason} {each.group.key}" for each in left_out]
        self.trained.append((step, [group.key for group in groups]))
        self.idle_since = self.clock.monotonic()

    async def train_again(self, step: int, keys: Sequence[str]) -> None:
        await self.clock.sleep(self.train_seconds)
        self.again.append((step, list(keys)))

    async def recover(self, cause: str) -> Restoration:
        assert cause == "killed"
        self.lost = None
        await self.clock.sleep(5)
        return Restoration(
            step=self.checkpoint, batches=tuple(tuple(keys) for _, keys in self.trained[self.checkpoint :])
        )

    async def collect(self, step: int) -> int:
        return step

    async def distribute(self, weights: int) -> int:
        await self.clock.sleep(self.update_seconds)
        self.served = weights
        for steps in self.running.values():
            steps.add(weights)
        return weights

    async def drop(self, group: FinishedGroup, reason: str) -> None:
        self.dropped[reason] += 1


def make(
    bench: Bench, screen: Any = lambda group: None, *, groups_per_call: int = 1, refill: bool = False, **admission: Any
) -> Controller:
    def prompts(number: int) -> tuple[str, ...]:
        return tuple(f"item{number * groups_per_call + n}" for n in range(groups_per_call))

    return Controller(
        Admission(**admission), bench, bench, prompts, screen, groups_per_call=groups_per_call, refill=refill
    )


def long_tail(seed: int, median: float = 1.0, sigma: float = 1.0) -> Any:
    rng = random.Random(seed)
    drawn: dict[int, float] = {}
    return lambda number: drawn.setdefault(number, median * rng.lognormvariate(0, sigma))


def test_synchronous_steps_take_their_own_call_and_nothing_is_stale() -> None:
    bench = Bench(SimulatedClock(), long_tail(0))
    controller = make(bench, groups_per_call=8, groups_per_step=8, staleness=0, num_steps=5)
    bench.clock.run(controller.run())
    assert [step for step, _ in bench.trained] == list(range(5))
    assert [keys for _, keys in bench.trained] == [[f"{n}/item{n * 8 + k}" for k in range(8)] for n in range(5)]
    assert set(bench.staleness) == {0}
    assert bench.asked == list(range(5))


@pytest.mark.parametrize("staleness", [1, 2, 4])
def test_the_bound_holds_for_every_token_whatever_the_tail(staleness: int) -> None:
    bench = Bench(SimulatedClock(), long_tail(1, sigma=2.0))
    bench.clock.run(make(bench, groups_per_step=16, staleness=staleness, num_steps=200).run())
    assert max(bench.staleness) == staleness, "the bound is used"
    assert min(bench.staleness) >= 0
    keys = [key for _, keys in bench.trained for key in keys]
    assert len(keys) == len(set(keys)) == 200 * 16
    assert not bench.dropped
    assert not bench.given_up


def test_the_tail_does_not_hold_the_batch_as_long_as_a_later_step_may_take_it() -> None:
    """One group of a hundred takes six times as long: at η = 0 each holds a step, at η = 4 next to none does."""

    def seconds_of(number: int) -> float:
        return 3.0 if number % 100 == 50 else 0.5

    waited = {}
    for staleness in (0, 4):
        bench = Bench(SimulatedClock(), seconds_of)
        bench.clock.run(make(bench, groups_per_step=16, staleness=staleness, num_steps=100).run())
        waited[staleness] = bench.waited
    assert waited[4] < 0.1 * waited[0]


def test_groups_without_variance_are_used_up_or_with_refill_replaced() -> None:
    def screen(group: FinishedGroup) -> str | None:
        return "too_easy" if int(group.item_id.removeprefix("item")) % 3 == 0 else None

    plain = Bench(SimulatedClock(), long_tail(2))
    plain.clock.run(make(plain, screen, groups_per_step=6, staleness=2, num_steps=10).run())
    assert sum(len(keys) for _, keys in plain.trained) == 40
    assert len(plain.left_out) == 20
    refilled = Bench(SimulatedClock(), long_tail(2))
    controller = make(refilled, screen, refill=True, groups_per_step=6, staleness=2, num_steps=10)
    refilled.clock.run(controller.run())
    assert [len(keys) for _, keys in refilled.trained] == [6] * 10
    assert not refilled.left_out
    assert refilled.dropped["too_easy"] == controller.dropped["too_easy"] > 20
    assert max(refilled.staleness) <= 2


def test_where_nothing_teaches_refilling_ends_and_the_step_is_empty() -> None:
    bench = Bench(SimulatedClock(), long_tail(3))
    bench.clock.run(make(bench, lambda _: "too_hard", refill=True, groups_per_step=4, staleness=0, num_steps=2).run())
    assert [keys for _, keys in bench.trained] == [[], []]
    assert bench.dropped["too_hard"] == 2 * 4 * MOST_REFILLS


def test_oversampling_takes_the_first_to_finish_and_gives_up_the_rest() -> None:
    bench = Bench(SimulatedClock(), lambda number: 100.0 if number % 6 == 5 else 1.0)
    bench.clock.run(make(bench, groups_per_step=4, staleness=0, num_steps=10, oversample=1.5).run())
    assert [len(keys) for _, keys in bench.trained] == [4] * 10
    assert bench.given_up == [number for number in range(60) if number % 6 == 5]
    assert bench.dropped["too_stale"] + bench.dropped["surplus"] == 10, "one a step came too late to be needed"
    assert bench.waited < 30
    assert max(bench.staleness) == 0


def test_a_lost_learner_goes_on_from_its_checkpoint_and_no_group_is_lost_or_trained_twice() -> None:
    bench = Bench(SimulatedClock(), long_tail(4), dies_at=[3, 7], checkpoint=2)
    bench.clock.run(make(bench, groups_per_step=8, staleness=2, num_steps=10).run())
    assert [step for step, _ in bench.trained] == list(range(10))
    assert [step for step, _ in bench.again] == [2, 2, 3, 4, 5, 6]
    assert bench.again[1:] == bench.trained[2:7], "the same groups in the same steps"
    keys = [key for _, keys in bench.trained for key in keys]
    assert len(keys) == len(set(keys)) == 80
    assert max(bench.staleness) <= 2


@pytest.mark.parametrize("in_update", [False, True])
def test_a_learner_that_is_found_dead_while_nothing_is_asked_of_it_is_replaced_at_once(in_update: bool) -> None:
    """Every generator is gone with the learner's node, and who joins waits for the weights of a learner that lives."""
    clock = SimulatedClock()
    bench = Bench(clock, lambda _: 1.0, checkpoint=1)
    controller = make(bench, groups_per_step=2, staleness=0, num_steps=5)
    stuck = bench.distribute if in_update else bench.sample
    struck = False

    async def waiting(*about: Any) -> Any:
        nonlocal struck
        if len(bench.trained) == 3 and not struck:
            struck, bench.lost = True, "killed"
            controller.look()
        while bench.lost is not None:
            await clock.sleep(1)
        return await stuck(*about)

    setattr(bench, "distribute" if in_update else "sample", waiting)
    clock.run(controller.run())
    assert struck
    assert [step for step, _ in bench.again] == [1, 2]
    keys = [key for _, keys in bench.trained for key in keys]
    assert len(keys) == len(set(keys)) == 10
    assert [step for step, _ in bench.trained] == list(range(5))


def test_a_run_that_goes_on_trains_again_asks_again_and_then_asks_anew() -> None:
    bench = Bench(SimulatedClock(), long_tail(5))
    controller = make(bench, groups_per_step=2, staleness=1, num_steps=3)
    pending = [Call(number=2, item_ids=("item2",))]
    bench.clock.run(controller.run(step=0, again=[("0/item0",)], calls=pending, next_call=3))
    assert bench.again == [(0, ["0/item0"])]
    assert [step for step, _ in bench.trained] == [1, 2]
    assert bench.asked == [2, 3, 4, 5]


def test_an_error_of_a_role_ends_the_run_with_nothing_under_way() -> None:
    async def main() -> None:
        bench = Bench(SimulatedClock(), long_tail(6))

        async def fail(call: Call, begins: Callable[[], None]) -> Sequence[FinishedGroup]:
            if call.number == 5:
                raise RuntimeError("a generator's last words")
            await asyncio.sleep(3600)
            return []

        bench.sample = fail  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="last words"):
            await make(bench, groups_per_step=4, staleness=1, num_steps=3).run()
        assert len(asyncio.all_tasks()) == 1

    SimulatedClock().run(main())
