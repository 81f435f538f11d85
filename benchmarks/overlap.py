"""How much of the possible overlap of generating and training the shipped controller reaches, at 1 to 256 generators.

    python benchmarks/overlap.py [--steps 24]

The controller is the shipped one, unmodified; so are the line before the generators and the simulated engine. Simulated
are the clock, the engines' speed and the trainer, which sleeps as long as the generators need for a step's tokens at
their best (trainer : generator time 1 : 1). Answers have a lognormal length, median 300 tokens and 99th percentile 900,
cut at 1,024; an engine runs 128 sequences at once and gives each a token every 45.6 ms; an update takes it 1 s, while
what runs stands still and then goes on; a step takes 48 groups of 8 for each generator.

The bound is computed from the drawn lengths alone, without the controller. Nobody can be done before the trainer has
trained all steps, the first of which cannot begin before the smallest groups of those that may be asked are generated
at the fleet's best speed; nor before the fleet has generated every token at its best speed and has taken every version
of the weights but the last, and the last step is trained.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from reporting import report

from residency.actors.engine_requests import REQUEST_SCHEMA
from residency.actors.simulated_answers import SimulatedEngineConfig, draw, load_simulated_config
from residency.actors.simulated_engine import SimulatedEngine
from residency.platform.clock import SimulatedClock
from residency.platform.pool.line import Line, Ticket
from residency.platform.records import PolicyVersion
from residency.platform.sampling import SamplingConfig
from residency.training.rollouts.admission import Admission
from residency.training.rollouts.controller import Controller
from residency.training.rollouts.finished_group import Call, FinishedGroup
from residency.training.rollouts.roles import LeftOut, Restoration
from residency.training.rollouts.token_steps import token_steps
from residency.training.weight_buckets import WeightsManifest

SIZES = (1, 8, 64, 256)
GOAL = 0.95
LEAST_TOKENS = 1_000_000
ROLLOUTS = 8
GROUPS_A_GENERATOR = 48  # that a step takes, for each generator
STALENESS = 2
SYNCHRONOUS_STEPS = 6  # each costs the same: nothing overlaps
ASSUMED = {
    "median_tokens": 300, "p99_tokens": 900, "max_sequences": 128, "step_seconds": 0.02, "sequence_seconds": 0.0002,
    "prefill_steps": 0, "update_seconds": 1.0,
}  # fmt: skip
SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=1024)
SPARE_CALLS = 16  # that an engine has waiting, so that it never runs short


@cache
def config() -> SimulatedEngineConfig:
    return load_simulated_config().model_copy(update=ASSUMED)


def request_table(number: int) -> pa.Table:
    row = {
        "item_id": f"item{number}", "prompt": "what is seen?", "media": [], "prompt_mode": "think",
        "num_samples": ROLLOUTS, "seed": 1_000_003 * number,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=REQUEST_SCHEMA)


@dataclass(eq=False)
class Seat:
    """One engine in the line."""

    engine: SimulatedEngine
    in_flight: int = 0


class Fleet:
    """Simulated engines behind the shipped line, and a trainer that sleeps; what was consumed is counted."""

    def __init__(self, num_generators: int, clock: SimulatedClock, train_seconds: float) -> None:
        start = PolicyVersion(incarnation=0, step=0)
        self._clock, self._train_seconds = clock, train_seconds
        self._seats = [
            Seat(SimulatedEngine(config(), version=start, label="base", clock=clock, name=f"engine-{index}"))
            for index in range(num_generators)
        ]
        self._line: Line[Seat] = Line(-(-config().max_sequences // ROLLOUTS) + SPARE_CALLS, None)
        for seat in self._seats:
            self._line.open(seat)
        self.staleness: Counter[int] = Counter()
        self.groups: list[str] = []
        self.done_at = 0.0

    async def sample(self, call: Call, begins: Callable[[], None]) -> Sequence[FinishedGroup]:
        ticket = Ticket(call.number)
        seat = await self._line.take(ticket)
        begins()
        try:
            traces = await seat.engine.generate_async(request_table(call.number), SAMPLING)
        finally:
            self._line.give_back(seat, ticket)
        steps = token_steps(traces)
        return [FinishedGroup(key=f"{call.number}", item_id="", trace_ids=(), scores=(0.0, 1.0), token_steps=steps)]

    async def give_up(self, call: Call, reason: str) -> None:
        raise AssertionError(f"call {call.number} was given up: {reason}")

    async def train(self, step: int, groups: Sequence[FinishedGroup], left_out: Sequence[LeftOut]) -> None:
        await self._clock.sleep(self._train_seconds)
        for group in groups:
            self.groups.append(group.key)
            for behind, tokens in group.staleness(step).items():
                self.staleness[behind] += tokens
        self.done_at = self._clock.monotonic()

    async def train_again(self, step: int, keys: Sequence[str]) -> None:
        raise AssertionError("nothing was lost")

    @property
    def lost(self) -> str | None:
        return None

    async def recover(self, cause: str) -> Restoration:
        raise AssertionError("nothing was lost")

    async def collect(self, step: int) -> WeightsManifest:
        return WeightsManifest(version=PolicyVersion(incarnation=0, step=step), label=f"rl@{step}", buckets=())

    async def distribute(self, weights: WeightsManifest) -> int:
        if weights.version.step == 0:
            return 0  # the engines were started with them
        await asyncio.gather(*(seat.engine.update_weights_async(weights, [], in_flight=True) for seat in self._seats))
        return weights.version.step

    async def drop(self, group: FinishedGroup, reason: str) -> None:
        raise AssertionError(f"group {group.key} was dropped: {reason}")


def drawn_tokens(num_groups: int) -> np.ndarray:
    """Tokens of each group, in the order of the calls [groups]."""
    from residency.actors.engine_requests import read_requests

    totals = np.zeros(num_groups, np.int64)
    for number in range(num_groups):
        (asked,) = read_requests(request_table(number), SAMPLING)
        totals[number] = sum(len(each.token_ids) for each in draw(config(), 0, asked, SAMPLING))
    return totals


def best_rate() -> float:
    """Tokens a second of a full engine."""
    it = config()
    return it.max_sequences / (it.step_seconds + it.sequence_seconds * it.max_sequences)


def lower_bound(tokens: np.ndarray, num_generators: int, per_step: int, train_seconds: float) -> float:
    """Seconds before which no schedule can be done, whatever it does (see above)."""
    num_steps, fleet = len(tokens) // per_step, num_generators * best_rate()
    may_be_asked = np.sort(tokens[: per_step * (STALENESS + 1)])
    first = may_be_asked[:per_step].sum() / fleet
    generating = tokens.sum() / fleet + (num_steps - 1) * config().update_seconds
    return max(first + num_steps * train_seconds, generating + train_seconds)


def simulate(num_generators: int, num_steps: int, staleness: int) -> tuple[Fleet, float, float]:
    """The fleet after the run, the run's seconds and the bound's."""
    per_step = GROUPS_A_GENERATOR * num_generators
    tokens = drawn_tokens(num_steps * per_step)
    train_seconds = float(tokens.sum() / num_steps / (num_generators * best_rate()))
    clock = SimulatedClock()
    fleet = Fleet(num_generators, clock, train_seconds)
    admission = Admission(groups_per_step=per_step, staleness=staleness, num_steps=num_steps)
    controller = Controller(admission, fleet, fleet, lambda number: (f"item{number}",), lambda _: None)
    clock.run(controller.run())
    assert len(set(fleet.groups)) == len(fleet.groups) == num_steps * per_step
    return fleet, fleet.done_at, lower_bound(tokens, num_generators, per_step, train_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=24)
    arguments = parser.parse_args()
    details: dict[str, dict[str, float]] = {}
    for size in SIZES:
        began = time.perf_counter()
        fleet, seconds, bound = simulate(size, arguments.steps, STALENESS)
        _, synchronous, its_bound = simulate(size, SYNCHRONOUS_STEPS, 0)
        consumed = fleet.staleness.total()
        details[f"{size}_generators"] = {
            "share_of_bound": float(bound / seconds),
            "share_of_bound_synchronous": float(its_bound / synchronous),
            "tokens_consumed": consumed,
            "staleness_max": max(fleet.staleness),
            **{f"staleness_{lag}": number / consumed for lag, number in sorted(fleet.staleness.items())},
            "simulated_seconds": seconds,
            "wall_seconds": time.perf_counter() - began,
        }
        print(size, details[f"{size}_generators"], file=sys.stderr)
    worst = min(each["share_of_bound"] for each in details.values())
    stale = max(each["staleness_max"] for each in details.values())
    consumed = sum(each["tokens_consumed"] for each in details.values())
    meets = worst >= GOAL and stale <= STALENESS and consumed >= LEAST_TOKENS
    report("overlap", worst, "share of the work-conserving bound", GOAL, meets, details)


if __name__ == "__main__":
    main()
