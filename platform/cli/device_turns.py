"""Colocation: generators and learners on the same devices, in turns. Where each has its own, nothing is done here."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from residency.actors.learner_group import LearnerGroup
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool

Role = Literal["generators", "learners"]


class DeviceTurns:
    """``pool`` and ``group`` are those that are there now, or None. Only synchronous RL can take turns."""

    def __init__(
        self,
        colocate: bool,
        pool: Callable[[], Pool | None],
        group: Callable[[], LearnerGroup | None],
        event: Callable[..., None],
    ) -> None:
        self._colocate, self._pool, self._group, self._event = colocate, pool, group, event
        self._whose: Role | None = None

    async def give(self, whose: Role) -> None:
        """The devices are theirs when this returns: the others have finished what they were at, and sleep."""
        if not self._colocate or whose == self._whose:
            return
        began = time.monotonic()
        steps: list[Callable[[], Awaitable[Any]]] = [lambda: self._generators(False), lambda: self._learners(True)]
        if whose == "generators":
            steps = [lambda: self._learners(False), lambda: self._generators(True)]
        self._whose = whose  # first: who joins meanwhile is told of it by ``settle``
        for step in steps:
            await step()
        self._event("device_turn", whose=whose, seconds=round(time.monotonic() - began, 3))

    async def settle(self, member: Member) -> None:
        """A generator that has just been prepared sleeps while it is the learners' turn."""
        if self._colocate and self._whose == "learners":
            await member.handle.take_turn.remote(False)

    async def _generators(self, awake: bool) -> None:
        if (pool := self._pool()) is not None:
            what = "waking up" if awake else "falling asleep"
            await pool.each(lambda member: member.handle.take_turn.remote(awake), what=what)

    async def _learners(self, awake: bool) -> None:
        if (group := self._group()) is not None:
            await group.take_turn(awake)
