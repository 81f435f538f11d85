"""The run's roles: starts each one where the profile seats it, once it is needed, and hands references between them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from residency.actors.engine_config import EngineConfig
from residency.actors.generator import start_generator
from residency.actors.learner_group import LearnerGroup
from residency.actors.synthesizer import start_synthesizer
from residency.actors.verifier import start_verifier
from residency.platform.arrow_tables import read_parquet, to_table
from residency.platform.cli.boards import Board, read_boards
from residency.platform.cli.device_turns import DeviceTurns
from residency.platform.cli.drain_watch import DrainWatch
from residency.platform.cli.learners_control import LearnersControl
from residency.platform.cli.notices import Notices
from residency.platform.cli.role_pools import RolePools
from residency.platform.cli.screen import Screen
from residency.platform.cli.spill_watch import SpillWatch
from residency.platform.cli.weights_control import WeightsControl
from residency.platform.clock import RealClock
from residency.platform.cluster import name_of, put, wait_for
from residency.platform.dataset_folder import Dataset, read_dataset
from residency.platform.errors import StorageError
from residency.platform.journal.journal import Journal
from residency.platform.media_store import blank_png, decode_image, media_hash, media_table
from residency.platform.node_types import demands_of
from residency.platform.placement import running_errors
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool
from residency.platform.profiles import GeneratorConfig, Profile
from residency.platform.recipe import LoraConfig, OptimizerConfig, Recipe
from residency.platform.records import Example, Item, PolicyVersion
from residency.platform.run_folder import RunFolder
from residency.platform.work_queue import WorkQueue
from residency.training.idle_meter import IdleMeter
from residency.training.mismatch.meter import budget

LEARNERS = ("rl", "rl_permuted")  # whose steps are journalled


class Crew:
    """Roles of one run, in pools that replace who dies; ``async with`` ends them in order, whatever happened.

    ``incarnation`` counts how often weights were loaded from a checkpoint, over all drivers of the run.
    What starts an engine and the learner group may be replaced in a subclass, by simulated ones.
    """

    start_engine: Callable[..., Any] = staticmethod(start_generator)
    start_group: Callable[..., Awaitable[LearnerGroup]] = staticmethod(LearnerGroup.start)

    def __init__(
        self, recipe: Recipe, profile: Profile, run: RunFolder, seed: int, screen: Screen, journal: Journal
    ) -> None:
        self.recipe, self.profile, self.run, self.seed, self.screen = recipe, profile, run, seed, screen
        self.journal, self.queue = journal, WorkQueue(journal)
        self.deadline = profile.deadline_seconds
        self.incarnation = newest_incarnation(journal)
        self._blanks: dict[str, str] = {}
        self._blank_pngs: dict[str, bytes] = {}
        self._pools = RolePools(profile, self.event)
        self.notices = Notices(profile.grace_seconds, self.event)
        self._drains = DrainWatch(self._pools, self.notices, self.event, profile.grace_seconds)
        self._spills = SpillWatch(run.spill, profile.spill_mib * 2**20, self.notices, self.event)
        self._watching: list[asyncio.Task[None]] = []
        self._ends = False
        self.learner_control = LearnersControl(
            profile,
            seed=seed,
            trust_remote_code=recipe.student.trust_remote_code,
            start=self.start_group,
            media=self.media,
            new_incarnation=self.next_incarnation,
            event=self.event,
            screen=screen,
        )
        self.turns = DeviceTurns(
            profile.colocate,
            pool=lambda: self._pools.opened("generator"),
            group=lambda: self.learner_control.present,
            event=self.event,
        )
        self.idle = IdleMeter(RealClock())
        self._media_ref: Any = None
        self.weights = WeightsControl(
            self._pools,
            profile,
            generators=self.generators,
            learners=lambda: self.learners,
            look_after_learners=self.look_after_learners,
            checkpoint=self.checkpoint,
            new_incarnation=self.next_incarnation,
            event=self.event,
            budget=budget(recipe.rl.max_mismatch, profile.dtype),
        )

    async def __aenter__(self) -> Self:
        """Raises RecipeError with the numbers where this cluster could never seat the profile's roles."""
        teachers = any(teacher.kind == "vllm" for teacher in self.recipe.all_teachers)
        for together in demands_of(self.profile, teachers=teachers):
            if errors := running_errors(together):
                raise errors[0]
        self._watching = [asyncio.create_task(watch) for watch in (self._drains.watch(), self._spills.watch())]
        return self

    def event(self, kind: str, **details: Any) -> None:
        """Into the run's events, and onto the screen where it is trouble."""
        try:
            self.run.event(kind, **details)
        except StorageError:
            if not self._ends:  # then it ended the run, and must not keep the roles from ending as well
                raise
        self.screen.tell_trouble(kind, details)

    async def __aexit__(self, *_: object) -> None:
        """Ends engines and learners in order, so that they leave no processes."""
        self._ends = True
        for watching in self._watching:
            watching.cancel()
        self.weights.close()
        await self.learner_control.close()
        await self._pools.close()

    # data ---------------------------------------------------------------------------------------------------------

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(self.run.data)

    def forget_dataset(self) -> None:
        """Other items lie in the run's data now; their images are among those that were published."""
        for name in ("dataset", "boards", "_media_of"):
            self.__dict__.pop(name, None)

    @cached_property
    def boards(self) -> tuple[Board, ...]:
        return read_boards(self.recipe, self.run)

    @property
    def prompts_path(self) -> Path:
        return self.run.path / "lineage" / "prompts.json"

    def items_table(self, items: Sequence[Item]) -> pa.Table:
        return to_table(items, Item)

    def read_examples(self) -> pa.Table:
        """The SFT mixture of this run."""
        return to_table(read_parquet(self.run.examples, Example), Example)

    def read_prompts(self) -> list[str]:
        """Item ids in the order in which RL draws them."""
        return json.loads(self.prompts_path.read_text())

    def checkpoint(self, name: str) -> Path:
        return self.run.checkpoints / name

    def has_checkpoint(self, name: str) -> bool:
        return (self.checkpoint(name) / "config.json").is_file()

    async def media(self) -> Any:
        """Reference of the one media table: every image of all datasets, and a blank one of each size."""
        if self._media_ref is None:
            pngs: dict[str, bytes] = {}
            for dataset in (self.dataset, *(board.dataset for board in self.boards if not board.own)):
                for key in sorted({key for item in dataset.items for key in item.media} - pngs.keys()):
                    png = pngs[key] = dataset.media.read_png(key)
                    blank = blank_png(decode_image(png, key).size)
                    self._blanks[key] = media_hash(blank)
                    pngs[self._blanks[key]] = self._blank_pngs[self._blanks[key]] = blank
            table = media_table(list(pngs.values()))
            self._media_ref = put(table)
            self.run.event(
                "media_published", reference=name_of(self._media_ref), images=table.num_rows, bytes=table.nbytes
            )
        return self._media_ref

    def read_png(self, key: str) -> bytes:
        """An image of the run's data, or one of the blank ones."""
        return self._blank_pngs.get(key) or self.dataset.media.read_png(key)

    async def blanks(self, items: Sequence[Item]) -> dict[str, tuple[str, ...]]:
        """For each item as many blank images of the same sizes."""
        await self.media()
        return {item.id: tuple(self._blanks[key] for key in item.media) for item in items}

    # references ---------------------------------------------------------------------------------------------------

    async def fetch(self, reference: Any, what: str) -> Any:
        """The value of a reference, from this node's store."""
        return await wait_for(reference, "the object store", f"handing over {what}", self.deadline)

    # generators ---------------------------------------------------------------------------------------------------

    async def generators(self) -> Pool:
        """The policy's engines, started with the base checkpoint when first asked for."""
        pool = await self._engines("generator", "policy", self.checkpoint("base"), self.profile.generators)
        await self.turns.give("generators")
        return pool

    async def teachers(self, number: int, model: str) -> Pool:
        """Engines of another model than the student; ``close_teachers`` ends them."""
        return await self._engines(f"teacher-{number}", "teacher", Path(model), self.profile.teachers)

    async def close_teachers(self, number: int) -> None:
        await self._pools.end(f"teacher-{number}")

    async def _engines(self, name: str, role: str, model_dir: Path, placement: GeneratorConfig) -> Pool:
        media, config = await self.media(), self.engine_config(placement, role)

        async def prepare(member: Member) -> None:
            """The engine is up, has the images, and serves the newest weights before its first request."""
            await wait_for(member.handle.health.remote(), member.name, "starting", self.deadline)
            await wait_for(member.handle.load_media.remote(media), member.name, "taking the media", self.deadline)
            if role == "policy":
                await self.weights.catch_up(member)
                await self.turns.settle(member)

        known = name in self._pools
        pool = await self._pools.get(
            name,
            placement,
            lambda: self.start_engine(model_dir, config, placement=placement, label=model_dir.name, role=role),
            requests_per_worker=self._calls_per_engine(placement) if role == "policy" else 1,
            prepare=prepare,
        )
        if not known:
            with self.screen.steps(f"starting the {role} engine", placement.actors, "engines") as steps:
                await pool.ready()
                steps.advance(placement.actors)
        return pool

    def _calls_per_engine(self, placement: GeneratorConfig) -> int:
        """One, which fills the engine; where RL asks group by group, as many as fill it, and as many waiting in it."""
        rl = self.recipe.rl
        return 2 * -(-placement.max_sequences // rl.group_size) if rl.group_by_group else 1

    def engine_config(self, placement: GeneratorConfig, role: str) -> EngineConfig:
        """A teacher's replies have its own length; a masked re-answer shows one of them in its prompt."""
        student = self.recipe.student
        longest = student.max_prompt_tokens + student.max_new_tokens
        if role == "teacher":
            longest = student.max_prompt_tokens + 2 * (self.recipe.synthesis.max_tokens or student.max_new_tokens)
        asked = [self.dataset.items, *(board.items for board in self.boards)]
        images = max((len(item.media) for items in asked for item in items), default=1)
        return EngineConfig.from_profile(
            self.profile,
            placement,
            max_model_len=longest,
            images_per_prompt=max(images, 1),
            trust_remote_code=student.trust_remote_code,
        )

    # weights ------------------------------------------------------------------------------------------------------

    def next_incarnation(self) -> int:
        """Weights are loaded from a checkpoint once more."""
        self.incarnation += 1
        return self.incarnation

    @property
    def weights_digest(self) -> str:
        """Of the weights that are on the generators."""
        return self.weights.digest

    async def put_on_generators(self, name: str) -> None:
        """A checkpoint of the run goes to every engine."""
        await self.weights.put_on_generators(name)

    async def publish_learners(self, label: str) -> None:
        """The learners' weights go to every engine."""
        await self.weights.publish_learners(label)

    # the other roles ----------------------------------------------------------------------------------------------

    async def judge(self, traces_ref: Any, items: Sequence[Item]) -> pa.Table:
        """Verdicts of a table of traces, by whichever verifier is free."""
        pool = await self._pools.get(
            "verifier",
            self.profile.verifiers,
            lambda: start_verifier(placement=self.profile.verifiers),
            requests_per_worker=2,
        )
        table, reward = self.items_table(items), self.recipe.rl.reward

        async def judge(member: Member) -> pa.Table:
            with self.idle.busy("verifier", member.name):
                return await member.handle.judge.remote(traces_ref, table, reward)

        return await pool.call(judge, what="judging", num_bytes=table.nbytes)

    async def synthesizer_call(self, verb: str, *args: Any) -> Any:
        """The result of one of the synthesizer's verbs."""
        return await self._synthesize(lambda member: getattr(member.handle, verb).remote(*args), verb)

    async def _synthesize(self, verb: Callable[[Member], Awaitable[Any]], what: str) -> Any:
        pool = await self._pools.get(
            "synthesizer",
            self.profile.synthesizers,
            lambda: start_synthesizer(placement=self.profile.synthesizers),
            requests_per_worker=1,
            closes=False,
        )
        return await pool.call(verb, what=what.replace("_", " "))

    async def _synthesizer_reference(self, verb: str, *args: Any) -> Any:
        """The reference of a verb's result, once the result is there; the value stays in the store."""

        async def ask(member: Member) -> Any:
            reference = getattr(member.handle, verb).remote(*args)
            await reference
            return [reference]  # a bare one would be awaited once more on its way back

        return (await self._synthesize(ask, verb))[0]

    async def encode(self, examples: pa.Table, checkpoint: str = "base") -> Any:
        """Reference of the examples' training batch, by the processor of this checkpoint."""
        return await self._synthesizer_reference(
            "encode", examples, str(self.checkpoint(checkpoint)), await self.media()
        )

    async def encode_rollouts(
        self, traces_refs: Sequence[Any], advantages: Mapping[str, float], item_ids: Sequence[str]
    ) -> Any:
        """Reference of the training batch of these items' rollouts: the engine's own tokens and logprobs, with
        advantages."""
        table = pa.table({"trace_id": list(advantages), "advantage": pa.array(advantages.values(), pa.float32())})
        asked = [self._media_of[item_id] for item_id in item_ids]
        media = pa.table({"item_id": list(item_ids), "media": pa.array(asked, pa.list_(pa.string()))})
        return await self._synthesizer_reference("encode_rollouts", table, media, *traces_refs)

    @cached_property
    def _media_of(self) -> dict[str, tuple[str, ...]]:
        """Image hashes by item."""
        return {item.id: item.media for item in self.dataset.items}

    async def num_rows(self, batch_ref: Any) -> int:
        return (await self.fetch(batch_ref, "a training batch")).num_rows

    # learners -----------------------------------------------------------------------------------------------------

    @property
    def learners(self) -> LearnerGroup:
        return self.learner_control.group

    async def load_learners(
        self,
        name: str,
        optimizer: OptimizerConfig,
        total_steps: int,
        *,
        lora: LoraConfig | None = None,
        resume: bool = False,
    ) -> None:
        """The learner group stands on a checkpoint of the run; its incarnation is a new one.

        The optimizer is a new one, or with ``resume`` the checkpoint's own, with its step and random state.
        """
        await self.learner_control.load(self.checkpoint(name), optimizer, total_steps, lora, resume)

    async def restart_learners(
        self,
        folder: Path,
        optimizer: OptimizerConfig,
        total_steps: int,
        cause: str,
        *,
        lora: LoraConfig | None = None,
    ) -> PolicyVersion:
        """In place of a group that is lost, a new one goes on from a checkpoint, as a new incarnation."""
        return await self.learner_control.restart(folder, optimizer, total_steps, lora, cause)

    async def look_after_learners(self) -> None:
        """Who trains is told where the group is dead."""
        if await self.learner_control.find_out():
            self.notices.tell()

    def why_learners_move(self) -> str | None:
        """Why the group should be started anew at the next checkpoint: its node goes, or there is room for more."""
        return self.learner_control.why_move(self.notices.leaving)

    async def save_learners(self, name: str, state: Mapping[str, Any] | None = None) -> None:
        """The weights as a checkpoint of the run; with ``state`` (the caller's position) all that a resume needs."""
        await self.learners.save_checkpoint(self.checkpoint(name), state)


def newest_incarnation(journal: Journal) -> int:
    """The highest incarnation that any token or step of the run has seen: the next one is new."""
    state = journal.state
    sampled = (now.answer.newest for now in state.keys.values() if now.answer is not None)
    trained = (state.learner(role).incarnation for role in LEARNERS)
    return max(*trained, PolicyVersion.unpack(max(sampled, default=0)).incarnation)
