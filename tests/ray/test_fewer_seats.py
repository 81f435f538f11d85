"""A learner group is started again on as many seats as there are, and moves back once there is room for all."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray._private.state import available_resources_per_node
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from residency.platform import placement
from residency.platform.cli.learners_control import LearnersControl
from residency.platform.cli.screen import Screen
from residency.platform.node_types import Seat, seat_of
from residency.platform.placement import no_events, options_in, release, reserve, reserve_most
from residency.platform.profiles import LearnerConfig, Profile
from residency.platform.recipe import OptimizerConfig
from residency.platform.records import PolicyVersion

SECONDS = 400
OPTIMIZER = OptimizerConfig(learning_rate=1e-3)
CPUS = 1.0


class Holder:
    """Holds CPUs."""


class SeatedGroup:
    """Seats its ranks as LearnerGroup does; they hold no model, so that none has to be imported."""

    def __init__(self, seats: Any, num_ranks: int, incarnation: int) -> None:
        self.seats, self.num_ranks, self._incarnation = seats, num_ranks, incarnation
        seat = Seat(cpus=CPUS)
        self.ranks: list[Any] = [
            ray.remote(Holder).options(**options_in(seats, rank, seat)).remote() for rank in range(num_ranks)
        ]
        refs = [rank.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()) for rank in self.ranks]
        self.nodes: list[str] = ray.get(refs, timeout=SECONDS)
        self.thief: Any = None
        self.robbed = False

    async def policy_version(self) -> PolicyVersion:
        return PolicyVersion(incarnation=self._incarnation, step=0)

    async def close(self) -> None:
        for rank in self.ranks:
            ray.kill(rank)
        release(self.seats)
        if self.robbed:  # of one of its seats, the moment that they are free
            node = self.nodes[0]
            await until(lambda: free_on(node) >= self.num_ranks * CPUS)
            self.thief = await asyncio.to_thread(hold, node, CPUS)


def hold(node_id: str, cpus: float) -> Any:
    here = NodeAffinitySchedulingStrategy(node_id, soft=False)
    holder: Any = ray.remote(Holder).options(num_cpus=cpus, scheduling_strategy=here).remote()
    ray.get(holder.__ray_ready__.remote(), timeout=SECONDS)
    return holder


def free_on(node_id: str) -> float:
    return available_resources_per_node()[node_id].get("CPU", 0.0)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds():
            await asyncio.sleep(0.05)


@pytest.mark.timeout(600)
def test_a_group_shrinks_to_the_room_there_is_and_grows_back(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "SCARCE_SECONDS", 5.0)
    right, told, incarnations = ray_cluster.right, list[tuple[str, dict[str, Any]]](), iter(range(1, 9))
    there = {"ray.io/node-id": right}
    profile = Profile.model_validate(
        {"name": "few", "learners": {"actors": 3, "cpus": CPUS, "labels": there}, "deadline_seconds": SECONDS}
    )

    async def start(folder: Path, learner: LearnerConfig, *_: Any, fewer: bool, incarnation: int, **__: Any) -> Any:
        seat, where = seat_of(learner), {"who": "ranks", "seconds": SECONDS, "events": no_events}
        if fewer:
            seats, number = await reserve_most(seat, learner.actors, **where)
        else:
            seats, number = await reserve(seat, learner.actors, **where), learner.actors
        return await asyncio.to_thread(SeatedGroup, seats, number, incarnation)

    async def media() -> None:
        """There are none."""

    control = LearnersControl(
        profile, seed=0, trust_remote_code=False, start=start, media=media, new_incarnation=lambda: next(incarnations),
        event=lambda kind, **details: told.append((kind, details)), screen=Screen(quiet=True),
    )  # fmt: skip

    async def scenario() -> None:
        await control.load(tmp_path, OPTIMIZER, 4, None, resume=False)
        assert control.group.num_ranks == 3
        assert control.why_move({}) is None
        assert "is being drained" in str(control.why_move({right: "is being drained"}))

        holder, lost = hold(right, free_on(right)), cast(SeatedGroup, control.group)
        lost.robbed = True
        version = await control.restart(tmp_path, OPTIMIZER, 4, None, "rank 2 died")
        assert version.incarnation == 2
        assert control.group.num_ranks == 2
        assert [details for kind, details in told if kind == "learner_ranks_changed"][0]["wanted"] == 3
        assert control.why_move({}) is None, "no room for the third"

        ray.kill(lost.thief)
        ray.kill(holder)
        await until(lambda: control.why_move({}) is not None)
        assert "room for all 3 learner ranks again" in str(control.why_move({}))
        await control.restart(tmp_path, OPTIMIZER, 4, None, str(control.why_move({})))
        assert control.group.num_ranks == 3
        assert [details["ranks"] for kind, details in told if kind == "learner_ranks_changed"] == [2, 3]

    try:
        asyncio.run(scenario())
    finally:
        asyncio.run(control.close())


@pytest.mark.timeout(500)
def test_more_seats_than_the_nodes_have_are_not_waited_for(ray_cluster: Any) -> None:
    there = ({"ray.io/node-id": ray_cluster.right},)
    seat = Seat(cpus=1.5, label_options=there)
    group, number = asyncio.run(reserve_most(seat, 9, who="ranks", seconds=SECONDS, events=no_events))
    release(group)
    assert number == 2
