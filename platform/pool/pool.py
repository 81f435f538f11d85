"""A pool of workers of one role that may die, join and leave while work goes on.

config = PoolConfig(role="verifier", minimum=1, maximum=4, requests_per_worker=2)
async with Pool(config, lambda name: start_verifier(), events=run.event) as pool:
    verdicts = await pool.call(lambda it: it.handle.judge.remote(traces, items, reward), what="judging")
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from residency.platform.errors import DeadlineError, ResidencyError, RoleError
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.faults import Fate, fate_of
from residency.platform.pool.line import Ticket
from residency.platform.pool.member import Member, State
from residency.platform.pool.roster import Roster

Result = TypeVar("Result")

LIVES = 3  # workers that one request may cost
CANCEL_SECONDS = 0.5  # that a cancelled verb may take for its last notes


class MemberLost(Exception):
    """(internal) The request must be asked elsewhere; ``spent`` where the worker died while it had it."""

    def __init__(self, spent: bool) -> None:
        super().__init__(spent)
        self.spent = spent


class Pool:
    """Calls wait in one line for a free place, first come first served; a call whose worker dies is made again.

    ``start`` gives the handle of a new worker by name (``max_restarts`` stays 0: the pool restarts). ``prepare`` brings
    a joiner up to date before its first request, ``stop`` closes what a leaver holds. ``events(kind, **details)`` is
    told of each join, leave and loss.
    """

    def __init__(
        self,
        config: PoolConfig,
        start: Callable[[str], Any],
        *,
        prepare: Callable[[Member], Awaitable[None]] | None = None,
        stop: Callable[[Member], Awaitable[None]] | None = None,
        events: Callable[..., None],
    ) -> None:
        self._events = events
        self._roster = Roster(config, start, prepare, stop, events)
        self._line = self._roster.line
        self._numbers = itertools.count()

    async def __aenter__(self) -> "Pool":
        self._roster.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._roster.close()

    @property
    def config(self) -> PoolConfig:
        return self._roster.config

    @property
    def members(self) -> list[Member]:
        """The workers that take requests now."""
        return self._roster.ready()

    async def ready(self) -> None:
        """Returns when the minimum is up; RoleError with the cause if the pool stops before."""
        await self._roster.until(lambda: len(self._roster.ready()) >= self.config.minimum)

    def resize(self, minimum: int, maximum: int) -> None:
        """New bounds, from now on; who is too many leaves within its grace."""
        self._roster.resize(minimum, maximum)

    def request_leave(self, name: str, reason: str = "asked to leave") -> None:
        """This worker leaves (its node is preempted or drained); another takes its place if the minimum asks."""
        if (member := self._roster.members.get(name)) is not None:
            self._roster.dismiss(member, reason)

    def leave_node(self, node_id: str, reason: str, grace_seconds: float) -> None:
        """All workers on a node leave, those as well that are still being prepared there. May be said again."""
        for member in list(self._roster.members.values()):
            if member.birth is not None and member.birth.node_id == node_id:
                self._roster.dismiss(member, reason, grace_seconds)

    async def call(
        self,
        verb: Callable[[Member], Awaitable[Result]],
        *,
        what: str,
        num_bytes: int = 0,
        seconds: float | None = None,
    ) -> Result:
        """The verb's result, from whichever worker is free first.

        The verb is called again, with another member, when the worker dies or leaves before it has answered. Then the
        verb's own error or cancellation comes first, with ``member.spent`` saying whether the worker died.
        The wait for a place has no deadline of its own: it ends because each call before it has one, or with the pool.
        A worker that takes more than ``seconds`` must answer a probe: DeadlineError if it does, else it hangs, and that
        is a death like any other. RoleError if the request has cost three workers their lives (before the third it had
        its worker for itself, so that no innocent is convicted; DeadlineError if it was late there as well), or if the
        pool stopped.
        """
        ticket = Ticket(next(self._numbers), num_bytes)
        lives = 0
        while True:
            member, late = await self._line.take(ticket), None
            try:
                return await self._attempt(member, verb, what, seconds or self.config.deadline_seconds)
            except MemberLost as lost:
                lives += lost.spent
            except DeadlineError as error:
                late = error
            finally:
                self._give_back(member, ticket)
            if late is not None:
                if await self._roster.answers(member):
                    raise late
                lives += 1
            if lives >= LIVES:
                raise await self._convicted(member, what, late)
            ticket = replace(ticket, alone=lives == LIVES - 1)

    async def each(
        self, verb: Callable[[Member], Awaitable[Result]], *, what: str, seconds: float | None = None
    ) -> dict[str, Result]:
        """All present workers at once: results by name. One that fails is replaced, the others count.

        Who joins later, or is just joining, is prepared after this call has begun: ``prepare`` must then give it what
        this verb gives the others. So an empty result means that all present died and a prepared one took their place;
        RoleError if all failed otherwise.
        """
        from ray.exceptions import RayError

        self._roster.round += 1
        members = self._roster.ready()
        seconds = seconds or self.config.deadline_seconds
        outcomes = await asyncio.gather(
            *(self._one_of_each(member, verb, what, seconds) for member in members), return_exceptions=True
        )
        results: dict[str, Result] = {}
        failures: list[BaseException] = []
        for member, outcome in zip(members, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                results[member.name] = outcome
            elif isinstance(outcome, ResidencyError | RayError):
                if fate_of(outcome, member.actor) is Fate.ANSWERED:
                    failures.append(outcome)
                self._roster.lose(member, outcome)
            else:
                raise outcome
        if not results and failures:
            raise RoleError(
                f"no {self.config.role} of {len(members)} finished {what}; the first: {failures[0]}"
            ) from failures[0]
        if not results:
            await self._roster.until(lambda: bool(self._roster.ready()))
        return results

    # steps of a call ----------------------------------------------------------------------------------------------

    def _give_back(self, member: Member, ticket: Ticket) -> None:
        self._line.give_back(member, ticket)
        if member.in_flight == 0:
            member.idle_since = time.monotonic()
            member.drained.set()

    async def _attempt(
        self, member: Member, verb: Callable[[Member], Awaitable[Result]], what: str, seconds: float
    ) -> Result:
        """MemberLost where the request must go elsewhere, whatever else the worker answered as it is."""
        if member.state is State.GONE:
            raise MemberLost(spent=False)  # lost between the seat and now
        work = asyncio.ensure_future(self._roster.call(member, verb, what, seconds))
        try:
            await asyncio.wait((work, member.evicted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not work.done():
                work.cancel()  # and wait: what the verb notes now must stand before it is called again
                await asyncio.wait((work,), timeout=CANCEL_SECONDS)
        if member.evicted.done() and (not work.done() or work.cancelled()):
            raise MemberLost(spent=member.spent)
        error = work.exception()
        if error is None:
            self._note_finished(member)
            return work.result()
        fate = fate_of(error, member.actor)
        if fate is Fate.ANSWERED:
            if isinstance(error, DeadlineError):
                self._roster.suspect(member)
            else:
                self._note_finished(member)
            raise error
        if fate is Fate.RESULT_LOST:
            self._roster.suspect(member)
        else:
            self._roster.lose(member, error)
        raise MemberLost(spent=True) from error

    def _note_finished(self, member: Member) -> None:
        member.num_finished += 1
        self._roster.ledger.finished()

    async def _one_of_each(
        self, member: Member, verb: Callable[[Member], Awaitable[Result]], what: str, seconds: float
    ) -> Result:
        member.num_occupied += 1
        try:
            result = await self._roster.call(member, verb, what, seconds)
            self._note_finished(member)
            return result
        finally:
            member.num_occupied -= 1

    async def _convicted(self, member: Member, what: str, late: DeadlineError | None) -> RoleError:
        """The error of a request that kills or hangs whoever takes it; the deaths were no fault of the pool."""
        self._roster.ledger.finished()
        cause = "its result was lost" if member.cause is None else await asyncio.shield(member.cause)
        self._events("request_refused", role=self.config.role, what=what, worker=member.name, cause=cause)
        return late or RoleError(
            f"{what} has cost {LIVES} {self.config.role}s their lives; the last, {member.name}: {cause}",
            "a request that a worker survives",
            "look at this request, or raise the role's memory in the profile",
        )
