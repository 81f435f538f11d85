"""Who is in a pool: starts, prepares, probes, loses and dismisses its workers, and explains each loss."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from residency.platform.causes import birth_of, cause_of
from residency.platform.cluster import stop_actor, wait_for
from residency.platform.errors import DeadlineError, PoolStoppedError, ResidencyError, RoleError
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.faults import Fate, fate_of
from residency.platform.pool.line import Line
from residency.platform.pool.member import Member, State
from residency.platform.pool.patience import call_patiently
from residency.platform.pool.scaling import CrashLedger, PoolLoad, WorkerLoad, decide

Result = TypeVar("Result")
Verb = Callable[[Member], Awaitable[Result]]
Hook = Callable[[Member], Awaitable[None]]

MAX_AUTOPSIES = 4  # at once: each takes a process on the node of the dead


class Roster:
    """Its supervisor task sleeps until something changes or a time has come; only health probes are periodic."""

    def __init__(
        self,
        config: PoolConfig,
        start: Callable[[str], Any],
        prepare: Hook | None,
        stop: Hook | None,
        events: Callable[..., None],
    ) -> None:
        self.config = config
        self.line: Line[Member] = Line(config.requests_per_worker, config.max_bytes, self._more_wanted)
        self.members: dict[str, Member] = {}
        self.failure: str | None = None
        self.ledger = CrashLedger(config.max_crashes, config.backoff_seconds)
        self.round = 0
        """Counts the calls of ``each``: who was prepared before the last one is prepared again."""
        self._start, self._prepare, self._stop, self._events = start, prepare, stop, events
        self._num_started = 0
        self._restart_at = 0.0
        self._closing = False
        self._changed = asyncio.Event()
        self._news: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._autopsies = asyncio.Semaphore(MAX_AUTOPSIES)
        self._causes: dict[tuple[str, int], asyncio.Task[str]] = {}

    # what the pool asks -------------------------------------------------------------------------------------------

    def ready(self) -> list[Member]:
        return [member for member in self.members.values() if member.state is State.READY]

    @property
    def patience(self) -> float:
        """Seconds without a sign of life after which a worker counts as lost."""
        return 3 * self.config.health_seconds

    def wake(self) -> None:
        """Look again whether there are too few or too many."""
        self._changed.set()

    def open(self) -> None:
        self._spawn(self._supervise())

    async def until(self, holds: Callable[[], bool]) -> None:
        """Returns when it holds, looked at after each change of the roster; RoleError if the pool stops before."""
        while not holds():
            if self.failure is not None:
                raise self.failure_error()
            if self._news is None:
                self._news = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._news)

    def failure_error(self) -> PoolStoppedError:
        return PoolStoppedError(self.failure or f"the pool of {self.config.role}s is closed")

    async def close(self) -> None:
        """Everyone leaves, within the grace; returns when nobody is left and each loss is explained."""
        self._closing = True
        self.failure = self.failure or f"the pool of {self.config.role}s is closed"
        self.line.fail(self.failure_error)
        self._announce()
        for member in list(self.members.values()):
            self.dismiss(member, "the pool is closed")
        self.wake()  # the supervisor ends by itself
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # lives --------------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        probe_at = time.monotonic() + self.config.health_seconds
        while not self._closing and self.failure is None:
            self._changed.clear()
            now = time.monotonic()
            if now >= probe_at:
                probe_at = now + self.config.health_seconds
                for member in self.ready():
                    if (member.suspect or not member.busy) and not member.probing:
                        self._spawn(self._probe(member))
            look_at = min(probe_at, self._scale(now))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), max(look_at - time.monotonic(), 0))

    def _scale(self, now: float) -> float:
        """Start and dismiss as the load asks; the time of the next look."""
        ready = [WorkerLoad(name=m.name, in_flight=m.in_flight, idle_since=m.idle_since) for m in self.ready()]
        starting = sum(member.state is State.STARTING for member in self.members.values())
        waiting = self.line.num_waiting_for_workers
        decision = decide(PoolLoad(waiting=waiting, ready=ready, starting=starting, now=now), self.config)
        for name in decision.leave:
            self.dismiss(self.members[name], "more workers than the work needs")
        if decision.start and now < self._restart_at:
            return self._restart_at
        for _ in range(0 if self.ledger.exhausted else decision.start):
            self._num_started += 1
            member = Member(f"{self.config.role}-{self._num_started}")
            self.members[member.name] = member
            self._spawn(self._bring_up(member))
        return now + self.config.health_seconds if decision.look_at is None else decision.look_at

    async def _bring_up(self, member: Member) -> None:
        """Start, ask where it is, prepare; prepared again if the others were given something new meanwhile."""
        from ray.exceptions import RayError

        if member.state is not State.STARTING:
            return  # dismissed before it began
        seconds = self.config.start_seconds
        try:
            member.handle = self._start(member.name)
            member.birth = await wait_for(member.actor.__ray_call__.remote(birth_of), member.name, "starting", seconds)
            while self._prepare is not None and member.state is State.STARTING:
                this_round = self.round
                await wait_for(self._prepare(member), member.name, "preparing for work", seconds)
                if this_round == self.round:
                    break
        except (ResidencyError, RayError) as error:
            self.lose(member, error)
            return
        if member.state is not State.STARTING:
            self._end(member)  # dismissed meanwhile, when there was no handle yet
            return
        member.state, member.idle_since = State.READY, time.monotonic()
        self._event("worker_joined", member, seconds=round(member.idle_since - member.started, 3))
        self.line.open(member)
        self._announce()
        self.wake()

    async def call(self, member: Member, verb: Verb[Result], what: str, seconds: float) -> Result:
        """One verb of one worker, by the conventions of ``cluster.wait_for``; patient while it is unavailable."""

        def tell(error: BaseException) -> None:
            self._event("worker_unavailable", member, cause=str(error).splitlines()[0])

        return await wait_for(call_patiently(member, verb, self.patience, tell), member.name, what, seconds)

    def suspect(self, member: Member) -> None:
        """It was late, or lost a result: it gets nothing new until it has answered a probe."""
        if member.state is State.READY and not member.suspect:
            member.suspect = True
            self.line.close(member)
            if not member.probing:
                self._spawn(self._probe(member))

    async def answers(self, member: Member) -> bool:
        """Whether a suspect turns out to be alive; else it is lost. What it is at ends first, by its own deadlines."""
        await self.until(lambda: not member.suspect or member.state is State.GONE)
        return member.state is not State.GONE

    async def _probe(self, member: Member) -> None:
        from ray.exceptions import RayError

        member.probing = True
        try:
            await self.call(member, lambda it: it.actor.__ray_ready__.remote(), "a health probe", self.patience)
        except (RoleError, RayError) as error:
            # One call at a time: a probe waits behind the calls, which have deadlines of their own
            if not (isinstance(error, DeadlineError) and member.busy):
                self.lose(member, error)
        else:
            if member.suspect and member.state is State.READY:
                member.suspect = False
                self.line.open(member)
                self._announce()
        finally:
            member.probing = False

    def lose(self, member: Member, error: BaseException) -> None:
        """It is gone, now: its requests go elsewhere at once and another is started; the cause is told once known."""
        if member.state is State.GONE:
            return
        was, given_back = member.state, member.in_flight
        member.spent = fate_of(error, member.actor) in (Fate.DIED, Fate.UNAVAILABLE) if member.handle else False
        self._remove(member)
        self._end(member)
        now = time.monotonic()
        if was is not State.LEAVING and not self._closing:
            self._restart_at = self.ledger.died(started=member.started, finished_calls=member.num_finished, now=now)
        member.cause = self._spawn(self._explain(member, error, was, given_back))
        self.wake()

    async def _explain(self, member: Member, error: BaseException, was: State, given_back: int) -> str:
        key = (member.birth.node_id, member.birth.pid) if member.birth else (member.name, 0)
        if key not in self._causes:  # many workers of one host die of one cause
            self._causes[key] = self._spawn(self._autopsy(member, error))
        cause = await asyncio.shield(self._causes[key])
        self._event(
            "worker_lost", member, cause=cause, state=was.value, requests_rerouted=given_back,
            seconds=round(time.monotonic() - member.started, 3),
        )  # fmt: skip
        if self.ledger.exhausted and not self._closing:
            self.stop_with(
                f"the pool of {self.config.role}s stopped after {self.ledger.crashes} deaths in a row without a "
                f"finished call; the last, {member.name}: {cause}"
            )
        return cause

    async def _autopsy(self, member: Member, error: BaseException) -> str:
        async with self._autopsies:
            return await cause_of(member.birth, error)

    def stop_with(self, failure: str) -> None:
        """No more work: whoever waits gets the failure."""
        if self.failure is None:
            self.failure = failure
            self.line.fail(self.failure_error)  # first: where the events cannot be written, nobody may wait for ever
            self._announce()
            self.wake()
            self._events("pool_stopped", role=self.config.role, cause=failure)

    def dismiss(self, member: Member, reason: str, grace_seconds: float | None = None) -> None:
        """It takes nothing new, works on within the grace (of the config, or shorter), gives the rest back and is
        ended."""
        if member.state is State.STARTING:
            self._remove(member)
            self._end(member)
        elif member.state is State.READY:
            member.state = State.LEAVING
            self.line.close(member)
            self._event("worker_leaving", member, reason=reason, in_flight=member.in_flight)
            grace = self.config.grace_seconds
            self._spawn(self._see_off(member, grace if grace_seconds is None else min(grace, grace_seconds)))
        self.wake()

    async def _see_off(self, member: Member, grace_seconds: float) -> None:
        from ray.exceptions import RayError

        started = time.monotonic()
        if member.in_flight:
            member.drained.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(member.drained.wait(), grace_seconds)
        if member.state is State.GONE:
            return  # it died meanwhile
        given_back = member.in_flight
        self._remove(member)
        problem: str | None = None
        if self._stop is not None:
            try:
                await wait_for(self._stop(member), member.name, "stopping", self.config.grace_seconds)
            except (ResidencyError, RayError) as error:
                problem = str(error).splitlines()[0]
        self._end(member)
        self._event(
            "worker_left", member, requests_given_back=given_back, seconds=round(time.monotonic() - started, 3),
            **({"problem": problem} if problem else {}),
        )  # fmt: skip

    # small steps --------------------------------------------------------------------------------------------------

    def resize(self, minimum: int, maximum: int) -> None:
        self.config = replace(self.config, minimum=minimum, maximum=maximum)
        self._events("pool_resized", role=self.config.role, minimum=minimum, maximum=maximum)
        self.wake()

    def _more_wanted(self) -> None:
        if len(self.members) < self.config.maximum:
            self.wake()

    def _remove(self, member: Member) -> None:
        self.members.pop(member.name, None)
        self.line.close(member)
        member.evict()
        self._announce()

    def _end(self, member: Member) -> None:
        if member.handle is not None and not member.shared:
            stop_actor(member.handle)

    def _event(self, kind: str, member: Member, **details: Any) -> None:
        self._events(kind, role=self.config.role, worker=member.name, **member.place, **details)

    def _announce(self) -> None:
        if self._news is not None:
            news, self._news = self._news, None
            news.set_result(None)

    def _spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)
        return task

    def _finish(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop_with(f"the pool of {self.config.role}s stopped: {type(error).__name__}: {error}")
