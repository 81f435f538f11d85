"""Calls to a worker that may only be out of reach for a moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from residency.platform.errors import RoleError
from residency.platform.pool.faults import Fate, fate_of
from residency.platform.pool.member import Member

Result = TypeVar("Result")

FIRST_PAUSE_SECONDS = 0.2


async def call_patiently(
    member: Member,
    verb: Callable[[Member], Awaitable[Result]],
    patience_seconds: float,
    tell: Callable[[BaseException], None],
) -> Result:
    """The verb's result; while the worker is unavailable the same call is made again, after a pause that doubles.

    Unavailable for ``patience_seconds``, it raises what the last call did. ``tell`` is called when it begins.
    """
    from ray.exceptions import RayActorError

    pause, give_up_at = FIRST_PAUSE_SECONDS, None
    while True:
        try:
            result = await verb(member)
        except (RayActorError, RoleError) as error:
            if fate_of(error, member.actor) is not Fate.UNAVAILABLE:
                raise
            now = time.monotonic()
            if not member.unavailable:
                member.unavailable = True
                tell(error)
            give_up_at = give_up_at or now + patience_seconds
            if now >= give_up_at:
                raise
            await asyncio.sleep(min(pause, give_up_at - now))
            pause *= 2
        else:
            member.unavailable = False
            return result
