"""Which weights the run's generators serve: sends each version to all of them and proves that it answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.actors.joining import join_generator, send_weights
from residency.actors.learner_group import LearnerGroup
from residency.actors.publisher import Published, start_publisher
from residency.platform.cli.role_pools import RolePools
from residency.platform.cluster import name_of
from residency.platform.errors import DeadlineError, LostObjectError, ResidencyError, RoleError, WeightUpdateError
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool
from residency.platform.profiles import Profile
from residency.platform.records import PolicyVersion, short_hash
from residency.training.canary import CanaryComparison, canary_error
from residency.training.rl_metrics import slowest
from residency.training.update_phases import IN_ENGINE, phase_of
from residency.training.weights_echo import WeightsEcho

LOOK_SECONDS = 0.5
Again = Callable[[], Awaitable[Published]]


@dataclass(frozen=True, kw_only=True)
class WeightsUpdate:
    """What an update of all engines took: seconds by phase, of the engine that was slowest in it."""

    num_bytes: int
    seconds: Mapping[str, float]


class WeightsControl:
    """Publishes a checkpoint or the learners' weights to every generator, and brings joiners up to date.

    A generator that fails in an update, or is late in a phase of it, is named in the event ``generator_dropped`` and
    replaced by its pool; the update of the others counts. ``budget`` is what the canary's mean logprob may differ by
    between a generator and the learner (nats). ``deadlines`` of an engine's phases (seconds) are shares of the
    profile's where absent.
    """

    def __init__(
        self,
        pools: RolePools,
        profile: Profile,
        *,
        generators: Callable[[], Awaitable[Pool]],
        learners: Callable[[], LearnerGroup],
        look_after_learners: Callable[[], Awaitable[None]],
        checkpoint: Callable[[str], Path],
        new_incarnation: Callable[[], int],
        event: Callable[..., None],
        budget: float,
        deadlines: Mapping[str, float] | None = None,
    ) -> None:
        self._pools, self._profile, self._seconds = pools, profile, profile.deadline_seconds
        self._generators, self._learners, self._checkpoint = generators, learners, checkpoint
        self._look_after_learners = look_after_learners
        self._new_incarnation, self._event, self._budget = new_incarnation, event, budget
        self._deadlines = deadlines
        self.wanted = PolicyVersion(incarnation=0, step=0)
        """The version that the generators are to serve."""
        self.digest = ""
        """Of the weights that are on the generators."""
        self.canaries: dict[str, CanaryComparison] = {}
        """The last update's comparisons with the learner, by generator."""
        self.digests: tuple[str, ...] = ()
        """Of each bucket of the last update, as the learner published it."""
        self.echoes: tuple[WeightsEcho, ...] = ()
        """What the engines answered to it."""
        self._on_disk = ("base", self.wanted)  # the last of it that is a checkpoint
        self._serving: dict[str, PolicyVersion] = {}
        self._comparison: asyncio.Future[None] | None = None  # under way while the learner trains on
        self._scored: dict[Any, tuple[float, ...]] = {}  # question → the learner's logprobs under the wanted version

    async def publisher(self) -> Any:
        """Handle of the one publisher; another takes its place where it died, and knows nothing yet."""
        pool = await self._publishers()
        await pool.ready()
        return pool.members[0].handle

    async def _publishers(self) -> Pool:
        """A call by this pool is made again where the publisher dies in it: that is nobody else's failure."""
        return await self._pools.get(
            "publisher",
            self._profile.publisher,
            lambda: start_publisher(cpus=self._profile.publisher.cpus),
            requests_per_worker=1,
            closes=False,
        )

    async def put_on_generators(self, name: str) -> dict[str, PolicyVersion]:
        """A checkpoint of the run goes to every engine, by way of the publisher; the version that each serves."""
        await self._generators()
        version = PolicyVersion(incarnation=self._new_incarnation(), step=0)

        async def publish() -> Published:
            return await (await self._publishers()).call(
                lambda member: member.handle.publish_folder.remote(str(self._checkpoint(name)), version, name),
                what=f"publishing {name}",
            )

        published = await publish()
        self._on_disk = (name, version)
        await self._update(published, publish, in_flight=False)
        return self.serving(await self._generators())

    async def publish_learners(self, label: str, in_flight: bool = False) -> dict[str, PolicyVersion]:
        """The learners' weights go to every engine (see ``distribute``). The version that each serves."""
        await self.distribute(await self.collect(label), in_flight)
        return self.serving(await self._generators())

    async def collect(self, label: str) -> Published:
        """The learners' weights, in the object store: the learners may go on as soon as this returns."""
        return await (await self._publishers()).call(
            lambda member: self._learners().publish_weights(member.handle, label),
            what=f"collecting the weights {label}",
        )

    async def distribute(self, published: Published, in_flight: bool) -> WeightsUpdate:
        """Collected weights go to every engine; digests, version and canary prove it.

        ``in_flight``: what runs goes on under the new weights between two steps (for a staleness above 0); otherwise it
        ends first, and the canary is compared before this returns. The comparison of an update in flight waits for its
        turn with the learner, and the next update for it (see ``settle``). CanaryError where every engine answers the
        canary otherwise than the learner does.
        """

        async def again() -> Published:
            return await self.collect(published[0].label)

        await self.settle()
        echoes = await self._update(published, again, in_flight)
        self._comparison = asyncio.ensure_future(self._compare(echoes))
        if not in_flight:
            await self.settle()
        manifest = published[0]
        phases = slowest(echo.seconds for echo in echoes.values())
        return WeightsUpdate(num_bytes=manifest.num_bytes, seconds={**manifest.seconds, **phases})

    async def settle(self) -> None:
        """Wait for the learner's word on the last update's canary; raises what it led to."""
        comparison, self._comparison = self._comparison, None
        if comparison is not None:
            await comparison

    def close(self) -> None:
        """Nothing is compared any more."""
        if self._comparison is not None:
            self._comparison.cancel()

    def serving(self, pool: Pool) -> dict[str, PolicyVersion]:
        """The version that each generator which takes requests now was last proven to serve."""
        return {it.name: self._serving[it.name] for it in pool.members if it.name in self._serving}

    async def catch_up(self, member: Member) -> None:
        """A joiner gets the newest weights; where the publisher lost them, the checkpoint's, then the learners'."""
        name, version = self._on_disk
        has = await join_generator(
            member.handle,
            member.name,
            await self.publisher(),
            self._checkpoint(name),
            version,
            self._event,
            self._seconds,
            self._check_joiner,
        )
        if has != self.wanted:
            manifest, buckets = await self._from_learners()
            echo = await send_weights(member.handle, member.name, manifest, buckets, self._seconds)
            self._check_joiner(member.name, echo)
            has = echo.version
        self._serving[member.name] = has

    async def _from_learners(self) -> Published:
        """What the learners hold now; of a group that is dead (on the same node, perhaps), what its successor will.

        Who trains starts the successor, and is told, for he may be waiting for the very generator that joins. A
        successor that still trains steps again has older weights than are wanted.
        """
        deadline, step = time.monotonic() + self._seconds, self.wanted.step
        while True:
            try:
                if (await self._learners().policy_version()).step >= step:
                    return await self._learners().publish_weights(await self.publisher(), str(self.wanted))
            except RoleError:
                if time.monotonic() > deadline:
                    raise
                await self._look_after_learners()
            if time.monotonic() > deadline:
                raise DeadlineError(f"the learners did not come to step {step} within {self._seconds:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)

    # one update ---------------------------------------------------------------------------------------------------

    async def _update(self, published: Published, again: Again, in_flight: bool) -> dict[str, WeightsEcho]:
        """To all engines at once; echoes by name. Who fails is replaced, and its successor catches up first."""
        manifest, buckets = published
        self.wanted, self._scored = manifest.version, {}
        self.digests = tuple(bucket.digest for bucket in manifest.buckets)
        self.digest = short_hash(*self.digests)
        failed: dict[str, ResidencyError] = {}
        second = _Once(again)

        async def take(member: Member) -> WeightsEcho:
            try:
                return await self._send(member, published, in_flight)
            except (WeightUpdateError, LostObjectError) as error:  # the old ones serve on: damaged or lost on the way
                self._event(
                    "update_refused", generator=member.name, label=manifest.label, version=str(manifest.version),
                    phase=phase_of(error), cause=str(error),
                )  # fmt: skip
            except ResidencyError as error:
                failed[member.name] = error
                raise
            try:
                return await self._send(member, await second(), in_flight)
            except ResidencyError as error:
                failed[member.name] = error
                raise

        pool = await self._generators()
        try:
            echoes = await pool.each(take, what=f"taking weights {manifest.label}", seconds=3 * self._seconds)
        except RoleError:
            if not failed:
                raise
            echoes = {}
        for name in failed.keys() - echoes.keys():
            self._event(
                "generator_dropped", generator=name, label=manifest.label, version=str(manifest.version),
                phase=phase_of(failed[name]) or "unknown: it died", cause=str(failed[name]),
            )  # fmt: skip
        if not echoes:
            await pool.ready()  # others have taken their place, with these weights; RoleError if they die as well
        for name, echo in echoes.items():
            self._serving[name] = echo.version
            self._event(
                "weights_updated", generator=name, label=manifest.label, version=str(manifest.version),
                references=[name_of(bucket) for bucket in buckets], digests=list(echo.digests),
                bytes=manifest.num_bytes, in_flight=in_flight, seconds={**manifest.seconds, **echo.seconds},
            )  # fmt: skip
        await (await self._publishers()).call(
            lambda member: member.handle.retain.remote([manifest.version]), what="letting go of old weights"
        )
        self.echoes = tuple(echoes.values())
        return echoes

    async def _send(self, member: Member, published: Published, in_flight: bool) -> WeightsEcho:
        how: dict[str, Any] = {"in_flight": True} if in_flight else {}
        seconds = self._seconds
        if self._deadlines is not None:
            how["deadlines"] = dict(self._deadlines)
            seconds = min(seconds, 2 * sum(self._deadlines[phase] for phase in IN_ENGINE))
        return await send_weights(member.handle, member.name, *published, seconds, **how)

    # the canary ---------------------------------------------------------------------------------------------------

    async def _compare(self, echoes: Mapping[str, WeightsEcho]) -> None:
        """With the learner's own forward pass. An engine that differs is dropped; CanaryError if all do."""
        self.canaries = {}
        for name, echo in echoes.items():
            reading = echo.canary
            if reading is None:
                self._event("canary_unread", generator=name, version=str(echo.version), cause="refused or late")
                continue
            if reading.question not in self._scored:
                try:
                    version, logprobs = await self._learners().canary_logprobs(reading)
                except RoleError as error:  # of a learner that died: whoever trains it finds that out
                    self._event("canary_unread", generator=name, version=str(echo.version), cause=str(error))
                    continue
                if version != reading.version:
                    continue  # the learner has gone on: its weights are others now
                self._scored[reading.question] = logprobs
            self.canaries[name] = CanaryComparison(
                generator=name, reading=reading, trainer_logprobs=self._scored[reading.question]
            )
        wrong = {name: each for name, each in self.canaries.items() if not each.within(self._budget)}
        for each in wrong.values():
            self._tell(each)
        if not wrong:
            return
        if len(wrong) == len(self.canaries):
            raise canary_error(list(wrong.values()), self._budget)

        async def drop(member: Member) -> None:
            if member.name in wrong:
                raise canary_error([wrong[member.name]], self._budget)

        await (await self._generators()).each(drop, what="answering the canary")
        for name, each in wrong.items():
            self._event(
                "generator_dropped", generator=name, version=str(each.reading.version), phase="canary",
                cause=str(canary_error([each], self._budget)),
            )  # fmt: skip

    def _check_joiner(self, name: str, echo: WeightsEcho) -> None:
        """Against what the learner said of the same tokens in the last update, where it did; CanaryError if beyond."""
        reading = echo.canary
        if reading is None or echo.version != self.wanted or reading.question not in self._scored:
            return
        comparison = CanaryComparison(generator=name, reading=reading, trainer_logprobs=self._scored[reading.question])
        if not comparison.within(self._budget):
            self._tell(comparison)
            raise canary_error([comparison], self._budget)

    def _tell(self, comparison: CanaryComparison) -> None:
        reading = comparison.reading
        self._event(
            "canary_differs", generator=comparison.generator, version=str(reading.version),
            difference=comparison.difference, budget=self._budget, token_ids=list(reading.token_ids),
            sampler_logprobs=list(reading.logprobs), trainer_logprobs=list(comparison.trainer_logprobs),
        )  # fmt: skip


class _Once:
    """A call that is made when it is first wanted, and whose answer all get who want it."""

    def __init__(self, call: Again) -> None:
        self._call = call
        self._task: asyncio.Task[Published] | None = None

    async def __call__(self) -> Published:
        if self._task is None:
            self._task = asyncio.ensure_future(self._call())
        return await asyncio.shield(self._task)
