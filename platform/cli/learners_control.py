"""The run's one learner group: stands it on a checkpoint, and puts another in the place of one that is lost."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from residency.actors.learner_group import LearnerGroup
from residency.platform.cli.screen import Screen
from residency.platform.errors import RecipeError, RoleError
from residency.platform.node_types import seat_of
from residency.platform.placement import cluster_words, free_seats
from residency.platform.profiles import Profile
from residency.platform.recipe import LoraConfig, OptimizerConfig
from residency.platform.records import PolicyVersion
from residency.training.learner_state import has_state


class LearnersControl:
    """A group that is started again has as many ranks as there is room for, and all of them once there is again.

    ``start`` is LearnerGroup's; the global batch does not depend on the number of ranks.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        seed: int,
        trust_remote_code: bool,
        start: Callable[..., Awaitable[LearnerGroup]],
        media: Callable[[], Awaitable[Any]],
        new_incarnation: Callable[[], int],
        event: Callable[..., None],
        screen: Screen,
    ) -> None:
        self._profile, self._wanted = profile, profile.learners.actors
        self._seed, self._trust, self._start_group = seed, trust_remote_code, start
        self._media, self._new_incarnation, self._event, self._screen = media, new_incarnation, event, screen
        self._group: LearnerGroup | None = None
        self._lost: str | None = None  # why the group is dead, where somebody else than its trainer found that

    @property
    def group(self) -> LearnerGroup:
        """RoleError while another takes the place of a lost one."""
        if self._group is None:
            raise RoleError("there is no learner group at the moment", "one that was loaded")
        return self._group

    @property
    def present(self) -> LearnerGroup | None:
        """The group, where there is one at the moment."""
        return self._group

    async def load(
        self, folder: Path, optimizer: OptimizerConfig, total_steps: int, lora: LoraConfig | None, resume: bool
    ) -> None:
        """The group, started where there is none yet, stands on the folder's weights."""
        if self._group is None:
            await self._start(folder, optimizer, total_steps, lora, resume, fewer=False)
        else:
            await self._group.load_checkpoint(
                folder, optimizer, total_steps, incarnation=self._new_incarnation(), resume=resume, lora=lora
            )

    async def restart(
        self, folder: Path, optimizer: OptimizerConfig, total_steps: int, lora: LoraConfig | None, cause: str
    ) -> PolicyVersion:
        """Another group in the place of this one, which is ended; from a folder without state with a fresh optimizer.

        RoleError where it does not start, also where no rank of it could be seated any more.
        """
        (lost, self._group), self._lost = (self._group, None), None
        before = self._wanted if lost is None else lost.num_ranks
        if lost is not None:
            await lost.close()
        try:
            group = await self._start(folder, optimizer, total_steps, lora, has_state(folder), fewer=True)
        except RecipeError as error:  # no mistake of the recipe: there was room for it
            raise RoleError(
                f"no rank of the learner group can be seated any more: {error.seen}",
                "a node with room for one",
                "start the same command again once there is: the run goes on from its last checkpoint",
            ) from error
        version = await group.policy_version()
        self._event(
            "learner_restarted", role="learner", cause=cause, step=version.step, incarnation=version.incarnation,
            ranks=group.num_ranks,
        )  # fmt: skip
        if group.num_ranks != before:
            self._event(
                "learner_ranks_changed", role="learner", ranks=group.num_ranks, before=before, wanted=self._wanted,
                cause=cluster_words(),
            )  # fmt: skip
        return version

    async def find_out(self) -> bool:
        """Whether the group is dead: ``why_move`` says so then."""
        group = self._group
        if group is None:
            return False
        try:
            await group.policy_version()
        except RoleError as error:
            if group is not self._group:
                return False  # another has taken its place
            self._lost = error.seen
        return self._lost is not None

    def why_move(self, leaving: Mapping[str, str]) -> str | None:
        """Why the group should be started anew at the next checkpoint; None where it may stay.

        ``leaving`` are nodes that go, by id, each with why.
        """
        if self._group is None:
            return None
        if self._lost is not None:
            return self._lost
        for rank, node in enumerate(self._group.nodes):
            if node in leaving:
                return f"learner rank {rank} is on node {node[:8]}, which {leaving[node]}"
        missing = self._wanted - self._group.num_ranks
        if missing > 0 and free_seats(seat_of(self._profile.learners)) >= missing:
            return f"there is room for all {self._wanted} learner ranks again, and it has {self._group.num_ranks}"
        return None

    async def close(self) -> None:
        if self._group is not None:
            await self._group.close()

    async def _start(
        self,
        folder: Path,
        optimizer: OptimizerConfig,
        total_steps: int,
        lora: LoraConfig | None,
        resume: bool,
        *,
        fewer: bool,
    ) -> LearnerGroup:
        with self._screen.steps("starting the learner group", self._wanted, "ranks") as steps:
            self._group = await self._start_group(
                folder,
                self._profile.learners,
                self._profile.dtype,
                optimizer,
                total_steps,
                await self._media(),
                self._seed,
                self._profile.deadline_seconds,
                incarnation=self._new_incarnation(),
                trust_remote_code=self._trust,
                events=self._event,
                resume=resume,
                lora=lora,
                fewer=fewer,
            )
            steps.advance(self._group.num_ranks)
        self._event("role_started", role="learner", ranks=self._group.num_ranks)
        return self._group
