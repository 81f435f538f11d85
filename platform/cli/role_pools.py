"""The pools of one run, each opened when its role is first needed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from residency.platform.pool.config import PoolConfig
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool
from residency.platform.profiles import Profile, RoleConfig


class RolePools:
    """By role; ``close`` ends all that are open, the last opened first."""

    def __init__(self, profile: Profile, events: Callable[..., None]) -> None:
        self._profile, self._events = profile, events
        self._pools: dict[str, Pool] = {}
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()

    def __contains__(self, role: str) -> bool:
        return role in self._pools

    def opened(self, role: str) -> Pool | None:
        """The role's pool, where it was needed before."""
        return self._pools.get(role)

    async def get(
        self,
        role: str,
        placement: RoleConfig,
        start: Callable[[], Any],
        *,
        requests_per_worker: int,
        prepare: Callable[[Member], Awaitable[None]] | None = None,
        closes: bool = True,
    ) -> Pool:
        """The role's pool. ``closes``: its workers have a verb ``close`` that is to be called before they are ended.

        Half of the object store may be in flight in one pool; the other half is for what travels next.
        """

        async def stop(member: Member) -> None:
            await member.handle.close.remote()

        async with self._lock:
            if role not in self._pools:
                config = PoolConfig(
                    role=role,
                    minimum=placement.actors,
                    maximum=placement.most_actors,
                    requests_per_worker=requests_per_worker,
                    max_bytes=self._profile.object_store_mib * 1024 * 1024 // 2,
                    grace_seconds=self._profile.grace_seconds,
                    deadline_seconds=self._profile.deadline_seconds,
                    start_seconds=self._profile.deadline_seconds,
                )
                pool = Pool(
                    config, lambda _: start(), prepare=prepare, stop=stop if closes else None, events=self._events
                )
                self._pools[role] = await self._stack.enter_async_context(pool)
        return self._pools[role]

    def leave_node(self, node_id: str, seconds: float) -> None:
        """Every worker on that node leaves: what it has it may finish for ``seconds``; others take the places."""
        for pool in self._pools.values():
            pool.leave_node(node_id, f"node {node_id[:8]} is being drained", seconds)

    async def end(self, role: str) -> None:
        """This role is needed no more."""
        await self._pools.pop(role).__aexit__()

    async def close(self) -> None:
        await self._stack.aclose()
