"""Devices in turns, over a real pool: one role sleeps before the other wakes, and a joiner is told whose turn it is."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any, cast

import pytest
import ray

from residency.actors.learner_group import LearnerGroup
from residency.platform.cli.device_turns import DeviceTurns
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.pool import Pool


def sleeper_class() -> Any:
    """Local, so that Ray ships it by value."""

    class Sleeper:
        def __init__(self) -> None:
            self.awake = True

        def take_turn(self, awake: bool) -> None:
            self.awake = awake

        def state(self) -> tuple[int, bool]:
            return os.getpid(), self.awake

    return Sleeper


class Group:
    """Looks at the engines whenever it is told whose turn it is."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self._look = look
        self.told: list[tuple[bool, list[bool]]] = []

    async def take_turn(self, awake: bool) -> None:
        self.told.append((awake, [state for _, state in await self._look()]))


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("ray_cluster")
def test_who_has_no_turn_sleeps_and_a_joiner_too() -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    def note(kind: str, **details: Any) -> None:
        told.append((kind, details))

    def start(_: str) -> Any:
        return ray.remote(sleeper_class()).options(num_cpus=0.05).remote()

    async def scenario() -> None:
        config = PoolConfig(role="generator", minimum=2, maximum=2, health_seconds=1, start_seconds=60)
        pool = Pool(config, start, prepare=lambda member: turns.settle(member), events=note)

        async def states() -> list[tuple[int, bool]]:
            return await asyncio.gather(*(member.handle.state.remote() for member in pool.members))

        group = Group(states)
        turns = DeviceTurns(True, lambda: pool, lambda: cast(LearnerGroup, group), note)
        async with pool:
            await pool.ready()
            await turns.give("learners")
            assert group.told == [(True, [False, False])], "the engines sleep before the learners wake"
            await turns.give("learners")
            assert len(group.told) == 1, "it is their turn already"

            pid, _ = (await states())[0]
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                while len([kind for kind, _ in told if kind == "worker_joined"]) < 3:
                    await asyncio.sleep(0.05)
            assert [awake for _, awake in await states()] == [False, False], "the joiner too"

            await turns.give("generators")
            assert group.told[1] == (False, [False, False]), "the learners give up before an engine wakes"
            assert [awake for _, awake in await states()] == [True, True]
        assert [details["whose"] for kind, details in told if kind == "device_turn"] == ["learners", "generators"]

        own = DeviceTurns(False, lambda: pool, lambda: cast(LearnerGroup, group), note)
        await own.give("learners")
        assert len(group.told) == 2, "devices of their own are never given"

    asyncio.run(asyncio.wait_for(scenario(), 150))
