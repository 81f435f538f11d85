"""The driver's handle on all learner ranks: each verb goes to every rank at once, with a deadline."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import PlacementGroup

from residency.actors.learner import (
    LearnerActor,
    canary_logprobs,
    hold_reference,
    join,
    open_address,
    reference_kl,
    skip_step,
    take_turn,
)
from residency.platform.causes import Birth, birth_of, cause_of
from residency.platform.cluster import wait_for
from residency.platform.errors import DeadlineError, ResidencyError, RoleError
from residency.platform.node_types import seat_of
from residency.platform.placement import Events, no_events, options_in, release, reserve, reserve_most
from residency.platform.profiles import LearnerConfig
from residency.platform.recipe import LoraConfig, OptimizerConfig
from residency.platform.records import PolicyVersion
from residency.training.batch_stats import BatchStats, StepStats, add_stats
from residency.training.canary import CanaryReading
from residency.training.deepspeed_config import EngineSettings
from residency.training.losses import LossConfig
from residency.training.rank_address import RankAddress
from residency.training.weight_buckets import WeightsManifest

CLOSE_SECONDS = 15.0
SETTLE_SECONDS = 5.0  # from a rank's complaint that its peer is gone until the cluster knows which one died


def rank_environment(learner: LearnerConfig) -> dict[str, str]:
    """Environment of a rank, standing before torch is imported in it."""
    environment = {
        "OMP_NUM_THREADS": str(learner.threads),
        "MKL_NUM_THREADS": str(learner.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    if not learner.gpus:
        environment["DS_ACCELERATOR"] = "cpu"
    return environment


class LearnerGroup:
    """Started by ``await LearnerGroup.start(…)``. After an error of a rank the group is of no more use: close it."""

    def __init__(self, seats: PlacementGroup, deadline_seconds: float) -> None:
        self._seats, self._deadline_seconds = seats, deadline_seconds
        # A verb at a time: the publisher's calls and ours reach the ranks by two ways, and collective verbs that two
        # ranks begin in another order wait for each other.
        self._turn = asyncio.Lock()
        self._actors: list[Any] = []
        self._births: list[Birth] = []
        self._failed = False

    @classmethod
    async def start(
        cls,
        model_dir: Path,
        learner: LearnerConfig,
        dtype: Literal["float32", "bfloat16"],
        optimizer: OptimizerConfig,
        total_steps: int,
        media_ref: "ray.ObjectRef[Any]",
        seed: int,
        deadline_seconds: float,
        incarnation: int = 0,
        trust_remote_code: bool = False,
        events: Events = no_events,
        resume: bool = False,
        lora: LoraConfig | None = None,
        fewer: bool = False,
    ) -> Self:
        """Place the rank actors, all or none, join them to a process group and build their engines.

        ``fewer``: where there is no room for all ranks, as many as there is room for; the global batch stays.

        ``media_ref`` is the media table in the object store; ``events`` hears of a wait for the seats. ``resume``: the
        folder is a state checkpoint, and optimizer, step, schedule and random state go on from it, whatever the number
        of ranks; ``lora``: adapters train in place of the weights. Raises RecipeError where the cluster could never
        seat the ranks, ModelError for a checkpoint that cannot be gone on from, RoleError or DeadlineError naming the
        rank; no actor and no seat is left behind then.
        """
        settings = EngineSettings(
            optimizer=optimizer,
            total_steps=total_steps,
            zero_stage=learner.zero_stage,
            dtype=dtype,
            micro_batch_tokens=learner.micro_batch_tokens,
            activation_checkpointing=learner.activation_checkpointing,
            threads=learner.threads,
            seed=seed,
            deadline_seconds=deadline_seconds,
            trust_remote_code=trust_remote_code,
            lora=lora,
        )
        seat = seat_of(learner)
        where: dict[str, Any] = {"who": "the learner ranks", "seconds": deadline_seconds, "events": events}
        if fewer:
            seats, num_ranks = await reserve_most(seat, learner.actors, **where)
        else:
            seats, num_ranks = await reserve(seat, learner.actors, **where), learner.actors
        group = cls(seats, deadline_seconds)
        joined = False
        try:
            environment = {"env_vars": rank_environment(learner)}
            for rank in range(num_ranks):
                remote: Any = ray.remote(LearnerActor).options(**options_in(seats, rank, seat), runtime_env=environment)
                group._actors.append(remote.remote(str(model_dir), settings, incarnation))
            actors = group._actors
            births = [actor.__ray_call__.remote(birth_of) for actor in actors]
            group._births = await group._gather(births, "starting")
            host, port = await wait_for(
                actors[0].__ray_call__.remote(open_address), "learner rank 0", "starting", deadline_seconds
            )
            addresses = [
                RankAddress(rank=rank, num_ranks=len(actors), host=host, port=port) for rank in range(len(actors))
            ]
            await group._gather(
                [
                    actor.__ray_call__.remote(join, address, media_ref, resume)
                    for actor, address in zip(actors, addresses, strict=True)
                ],
                "joining the group",
            )
            joined = True
        finally:
            if not joined:  # a failed or cancelled start leaves no actor and no seat
                group._kill()
        return group

    @property
    def num_ranks(self) -> int:
        return len(self._actors)

    @property
    def nodes(self) -> list[str]:
        """Ids of the nodes that the ranks are on, by rank."""
        return [birth.node_id for birth in self._births]

    async def forward_backward(
        self, batch_ref: "ray.ObjectRef[Any]", rows: Sequence[int] | None, loss: LossConfig
    ) -> BatchStats:
        """Gradient of the batch in the object store (of its ``rows``, where given); sums over all ranks."""
        parts: list[BatchStats] = await self._all("forward_backward", batch_ref, rows, loss)
        return add_stats(parts, parallel=True)

    async def optim_step(self) -> StepStats:
        """One optimizer step on the gradients since the last."""
        return (await self._all("optim_step"))[0]

    async def train_steps(
        self, batch_ref: "ray.ObjectRef[Any]", rows: Iterable[Sequence[int]], loss: LossConfig
    ) -> AsyncGenerator[tuple[BatchStats, StepStats], None]:
        """A gradient and an optimizer step for each of ``rows``, on one batch table.

        The ranks are given a step while they are at work on the one before, so that they wait for no answer's way.
        Nothing else may be asked of them until the iteration has ended (close it, where it is left before).
        """
        async with self._turn:
            under_way: list[list[Any]] = []
            for chosen in rows:
                before, under_way = (
                    under_way,
                    [
                        [actor.forward_backward.remote(batch_ref, chosen, loss) for actor in self._actors],
                        [actor.optim_step.remote() for actor in self._actors],
                    ],
                )
                if before:
                    yield await self._step_of(*before)
            if under_way:
                yield await self._step_of(*under_way)

    async def _step_of(self, losses: Sequence[Any], updates: Sequence[Any]) -> tuple[BatchStats, StepStats]:
        parts: list[BatchStats] = await self._gather(losses, "forward_backward")
        return add_stats(parts, parallel=True), (await self._gather(updates, "optim_step"))[0]

    async def skip_step(self) -> None:
        """Count a step in which there was nothing to learn: version and schedule go on, the weights do not."""
        await self._run("skipping a step", skip_step)

    async def take_turn(self, awake: bool) -> None:
        """Have the devices that are shared in turns, or give up what the generators need of them meanwhile."""
        await self._run("taking turns", take_turn, awake)

    async def save_checkpoint(self, out: Path, state: Mapping[str, Any] | None = None) -> Path:
        """Write the weights as a Hugging Face folder, aside and then renamed.

        With ``state`` (a JSON-able mapping, the caller's data position) also what a resume needs, below ``state/``:
        ``learner_state.read_state`` gives step and mapping back.
        """
        await self._all("save_checkpoint", str(out), state)
        return out

    async def load_checkpoint(
        self,
        model_dir: Path,
        optimizer: OptimizerConfig | None = None,
        total_steps: int | None = None,
        incarnation: int | None = None,
        resume: bool = False,
        lora: LoraConfig | None = None,
    ) -> PolicyVersion:
        """Weights of a folder into the live processes, with a fresh optimizer and, where given, another schedule.

        The version's incarnation is the one given, else the next, and its step is 0: no two weights share a version.
        With ``resume`` optimizer, step, schedule and random state go on from the state that was saved with them.
        Adapters train only where ``lora`` is given, whatever trained before.
        """
        verb = "load_checkpoint", str(model_dir), optimizer, total_steps, incarnation, resume, lora
        return (await self._all(*verb))[0]

    async def hold_reference(self, model_dir: Path) -> None:
        """Hold a folder's model beside the policy, frozen, for KL; ``load_checkpoint`` lets it go."""
        await self._run("holding the reference", hold_reference, str(model_dir))

    async def reference_kl(
        self, batch_ref: "ray.ObjectRef[Any]", temperature: float, top_k: int = 0, top_p: float = 1.0
    ) -> dict[str, float]:
        """For KL in the reward: Σ (sampler − reference) logprob of each row's completion, by row id (nats)."""
        parts: list[dict[str, float]] = await self._run(
            "scoring the reference", reference_kl, batch_ref, temperature, top_k, top_p
        )
        return {row_id: value for part in parts for row_id, value in part.items()}

    async def canary_logprobs(self, reading: CanaryReading) -> tuple[PolicyVersion, tuple[float, ...]]:
        """The version of the weights, and their logprobs of the tokens that an engine sampled for the canary prompt."""
        return (await self._run("scoring the canary", canary_logprobs, reading))[0]

    async def publish_weights(self, publisher: Any, label: str) -> "tuple[WeightsManifest, list[ray.ObjectRef[Any]]]":
        """Put the weights into the object store, owned by ``publisher`` (who then knows them as the latest)."""
        async with self._turn:
            published = publisher.collect.remote(self._actors, label, self._deadline_seconds)
            what = f"collecting the weights {label}"
            try:
                return await wait_for(published, "the publisher", what, self._deadline_seconds)
            except DeadlineError:
                raise
            except RoleError:  # it is the publisher who notices a rank that died before it handed its weights over
                probes = [
                    asyncio.ensure_future(
                        wait_for(actor.policy_version.remote(), f"learner rank {rank}", what, SETTLE_SECONDS)
                    )
                    for rank, actor in enumerate(self._actors)
                ]
                dead = await self._first_dead(probes, what)
                for probe in probes:
                    probe.cancel()
                if dead is None:
                    raise
                self._failed = True
                raise dead from None

    async def policy_version(self) -> PolicyVersion:
        """Version of the weights; raises RoleError where the ranks do not agree."""
        versions: list[PolicyVersion] = await self._all("policy_version")
        if len(set(versions)) > 1:
            raise RoleError(f"the learner ranks hold the versions {[str(v) for v in versions]}", "one version")
        return versions[0]

    async def close(self) -> None:
        """Leave the process group, then end the actors; after a failure at once, for ranks may wait for a lost one."""
        if self._failed:
            self._kill()
            return
        with contextlib.suppress(ResidencyError):  # a rank that died or hangs is ended below all the same
            await self._gather([actor.close.remote() for actor in self._actors], "closing", CLOSE_SECONDS)
        self._kill()

    async def _all(self, verb: str, *arguments: Any) -> list[Any]:
        async with self._turn:
            return await self._gather([getattr(actor, verb).remote(*arguments) for actor in self._actors], verb)

    async def _run(self, what: str, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """A function of the actor on every rank: what is no verb of its own."""
        async with self._turn:
            refs = [actor.__ray_call__.remote(function, *arguments) for actor in self._actors]
            return await self._gather(refs, what)

    async def _gather(self, refs: Sequence[Any], what: str, seconds: float | None = None) -> list[Any]:
        """Answers of all ranks; the first rank that fails is named and the others are not waited for."""
        deadline = self._deadline_seconds if seconds is None else seconds
        tasks = [
            asyncio.ensure_future(wait_for(ref, f"learner rank {rank}", what, deadline))
            for rank, ref in enumerate(refs)
        ]
        answered = False
        try:
            answers = await asyncio.gather(*tasks)
            answered = True
        except DeadlineError:
            raise
        except RoleError:
            if (dead := await self._first_dead(tasks, what)) is not None:
                raise dead from None
            raise
        finally:
            self._failed = self._failed or not answered
            for task in tasks:
                task.cancel()
        return answers

    async def _first_dead(self, tasks: Sequence["asyncio.Task[Any]"], what: str) -> RoleError | None:
        """Who died and why, where a death is behind the failure: a rank that lives only says that its peer is gone."""
        await asyncio.wait(tasks, timeout=SETTLE_SECONDS, return_when=asyncio.ALL_COMPLETED)
        for rank, task in enumerate(tasks):
            error = task.exception() if task.done() and not task.cancelled() else None
            if error is not None and isinstance(error.__cause__, RayActorError):
                cause = await cause_of(self._births[rank] if self._births else None, error)
                return RoleError(
                    f"learner rank {rank} of {len(tasks)} died in {what}: {cause}",
                    "every rank alive",
                    "nothing is to be done where the run starts its learners again; else run it again, and it goes on",
                )
        return None

    def _kill(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        release(self._seats)
