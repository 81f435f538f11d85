"""The run's roles: starts each one where the profile seats it, once it is needed, and hands references between them."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from residency.actors.engine_config import EngineConfig
from residency.actors.generator import start_generator
from residency.actors.learner_group import LearnerGroup
from residency.actors.publisher import start_publisher
from residency.actors.synthesizer import start_synthesizer
from residency.actors.verifier import start_verifier
from residency.platform.arrow_tables import read_parquet, to_table
from residency.platform.cli.screen import Screen
from residency.platform.cluster import name_of, put, stop_actor, wait_for
from residency.platform.dataset_folder import Dataset, read_dataset
from residency.platform.errors import WeightUpdateError
from residency.platform.media_store import blank_png, decode_image, media_hash, media_table
from residency.platform.profiles import Profile
from residency.platform.recipe import OptimizerConfig, Recipe
from residency.platform.records import Example, Item, PolicyVersion
from residency.platform.run_folder import RunFolder


class Crew:
    """Handles of one run's roles. ``incarnation`` counts how often weights were loaded from a checkpoint."""

    def __init__(self, recipe: Recipe, profile: Profile, run: RunFolder, seed: int, screen: Screen) -> None:
        self.recipe, self.profile, self.run, self.seed, self.screen = recipe, profile, run, seed, screen
        self.deadline = profile.deadline_seconds
        self.incarnation = 0
        self.blanks: dict[str, str] = {}
        self._generators: list[Any] = []
        self._teachers: list[Any] = []
        self._learners: LearnerGroup | None = None
        self._media_ref: Any = None

    # data ---------------------------------------------------------------------------------------------------------

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(self.run.data)

    @property
    def dataset_name(self) -> str:
        return self.dataset.card.name

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
        """Reference of the one media table: every image of the dataset, and a blank one of each size."""
        if self._media_ref is None:
            pngs: list[bytes] = []
            for key in sorted({key for item in self.dataset.items for key in item.media}):
                png = self.dataset.media.read_png(key)
                blank = blank_png(decode_image(png, key).size)
                self.blanks[key] = media_hash(blank)
                pngs += [png, blank]
            table = media_table(pngs)
            self._media_ref = put(table)
            self.run.event(
                "media_published", reference=name_of(self._media_ref), images=table.num_rows, bytes=table.nbytes
            )
        return self._media_ref

    # references ---------------------------------------------------------------------------------------------------

    async def fetch(self, reference: Any, what: str) -> Any:
        """The value of a reference, from this node's store."""
        return await wait_for(reference, "the object store", f"handing over {what}", self.deadline)

    async def call_for_reference(self, method: Any, *args: Any, who: str, what: str) -> Any:
        """The reference of a call's result, once the result is there; the value stays in the store."""
        reference = method.remote(*args)
        await wait_for(wait_ready(reference), who, what, self.deadline)
        return reference

    def name_of(self, reference: Any) -> str:
        return name_of(reference)

    # generators ---------------------------------------------------------------------------------------------------

    def engine_config(self) -> EngineConfig:
        student = self.recipe.student
        images = max((len(item.media) for item in self.dataset.items), default=1)
        return EngineConfig.from_profile(
            self.profile,
            max_model_len=student.max_prompt_tokens + student.max_new_tokens,
            images_per_prompt=max(images, 1),
        )

    async def generators(self) -> list[Any]:
        """The policy's engines, started with the base checkpoint when first asked for."""
        if not self._generators:
            self._generators = await self._start_engines(self.checkpoint("base"), "policy", "base")
        return self._generators

    async def _start_engines(self, model_dir: Path, role: str, label: str) -> list[Any]:
        placement = self.profile.generators if role == "policy" else self.profile.teachers
        media = await self.media()
        engines = [
            start_generator(model_dir, self.engine_config(), placement=placement, label=label, role=role)
            for _ in range(placement.actors)
        ]
        with self.screen.steps(f"starting {len(engines)} {role} engine", len(engines), "engines") as steps:
            for engine in engines:
                await wait_for(engine.health.remote(), f"the {role} engine", "starting", self.deadline)
                await wait_for(engine.load_media.remote(media), f"the {role} engine", "taking the media", self.deadline)
                steps.advance()
        self.run.event("role_started", role="generator", model=label, actors=len(engines))
        return engines

    async def teacher_engines(self, model: str) -> list[Any]:
        """Engines of another model than the student."""
        self._teachers = await self._start_engines(Path(model), "teacher", Path(model).name)
        return self._teachers

    async def stop_teacher_engines(self) -> None:
        for engine in self._teachers:
            await wait_for(engine.close.remote(), "a teacher engine", "closing", self.deadline)
            stop_actor(engine)
        self._teachers = []

    async def put_on_generators(self, name: str) -> None:
        """A checkpoint of the run goes to every engine, by way of the publisher."""
        await self.generators()
        self.incarnation += 1
        version = PolicyVersion(incarnation=self.incarnation, step=0)
        manifest, buckets = await wait_for(
            self.publisher.publish_folder.remote(str(self.checkpoint(name)), version, name),
            "the publisher",
            f"publishing {name}",
            self.deadline,
        )
        await self._update(manifest, buckets)

    async def publish_learners(self, label: str) -> None:
        """The learners' weights go to every engine; digests and version are proven by each engine's echo."""
        manifest, buckets = await self.learners.publish_weights(self.publisher, label)
        await self._update(manifest, buckets)

    async def _update(self, manifest: Any, buckets: Sequence[Any]) -> None:
        engines = await self.generators()
        answers = [engine.update_weights.remote(manifest, list(buckets)) for engine in engines]
        for number, answer in enumerate(answers):
            echo = await wait_for(answer, f"generator {number}", f"taking weights {manifest.label}", self.deadline)
            wanted = tuple(bucket.digest for bucket in manifest.buckets)
            if echo.version != manifest.version or echo.digests != wanted:
                raise WeightUpdateError(
                    f"generator {number} says that it serves {echo.label} ({echo.version})",
                    f"{manifest.label} ({manifest.version}) with the digests of the manifest",
                    "start the same command again: it goes on from the last finished stage",
                )
            self.run.event(
                "weights_updated", generator=number, label=manifest.label, version=str(manifest.version),
                references=[name_of(bucket) for bucket in buckets], digests=list(wanted), bytes=manifest.num_bytes,
                seconds=dict(echo.seconds),
            )  # fmt: skip

    # the other roles ----------------------------------------------------------------------------------------------

    @cached_property
    def publisher(self) -> Any:
        return start_publisher(cpus=self.profile.publisher.cpus)

    @cached_property
    def verifiers(self) -> list[Any]:
        return [start_verifier(placement=self.profile.verifiers) for _ in range(self.profile.verifiers.actors)]

    @cached_property
    def synthesizer(self) -> Any:
        return start_synthesizer(placement=self.profile.synthesizers)

    async def judge(self, traces_ref: Any, items: Sequence[Item]) -> pa.Table:
        """Verdicts of a table of traces, by the verifier whose turn it is."""
        self._turn = getattr(self, "_turn", -1) + 1
        verifier = self.verifiers[self._turn % len(self.verifiers)]
        answer = verifier.judge.remote(traces_ref, self.items_table(items), self.recipe.rl.reward)
        return await wait_for(answer, "a verifier", "judging", self.deadline)

    async def synthesizer_call(self, verb: str, *args: Any) -> Any:
        """The result of one of the synthesizer's verbs."""
        return await wait_for(
            getattr(self.synthesizer, verb).remote(*args), "the synthesizer", verb.replace("_", " "), self.deadline
        )

    async def encode(self, examples: pa.Table, checkpoint: str = "base") -> Any:
        """Reference of the examples' training batch, by the processor of this checkpoint."""
        return await self.call_for_reference(
            self.synthesizer.encode, examples, str(self.checkpoint(checkpoint)), await self.media(),
            who="the synthesizer", what="encoding examples",
        )  # fmt: skip

    async def encode_rollouts(self, traces_refs: Sequence[Any], advantages: Mapping[str, float]) -> Any:
        """Reference of the training batch of rollouts: the engine's own tokens and logprobs, with advantages."""
        table = pa.table({"trace_id": list(advantages), "advantage": pa.array(advantages.values(), pa.float32())})
        media = pa.table(
            {
                "item_id": [item.id for item in self.dataset.items],
                "media": pa.array([list(item.media) for item in self.dataset.items], pa.list_(pa.string())),
            }
        )
        return await self.call_for_reference(
            self.synthesizer.encode_rollouts, table, media, *traces_refs,
            who="the synthesizer", what="encoding rollouts",
        )  # fmt: skip

    async def num_rows(self, batch_ref: Any) -> int:
        return (await self.fetch(batch_ref, "a training batch")).num_rows

    # learners -----------------------------------------------------------------------------------------------------

    @property
    def learners(self) -> LearnerGroup:
        assert self._learners is not None, "load_learners comes first"
        return self._learners

    async def load_learners(self, name: str, optimizer: OptimizerConfig, total_steps: int) -> None:
        """The learner group stands on a checkpoint of the run, with a new optimizer; its incarnation is a new one."""
        self.incarnation += 1
        if self._learners is None:
            with self.screen.steps("starting the learner group", self.profile.learners.actors, "ranks") as steps:
                self._learners = await LearnerGroup.start(
                    self.checkpoint(name),
                    self.profile.learners,
                    self.profile.dtype,
                    optimizer,
                    total_steps,
                    await self.media(),
                    self.seed,
                    self.deadline,
                    incarnation=self.incarnation,
                )
                steps.advance(self.profile.learners.actors)
            self.run.event("role_started", role="learner", ranks=self.profile.learners.actors)
        else:
            await self._learners.load_checkpoint(
                self.checkpoint(name), optimizer, total_steps, incarnation=self.incarnation
            )

    async def save_learners(self, name: str) -> None:
        await self.learners.save_checkpoint(self.checkpoint(name))

    async def close(self) -> None:
        """Ends engines and learners in order, so that they leave no processes."""
        for engine in (*self._generators, *self._teachers):
            await wait_for(engine.close.remote(), "a generator", "closing", self.deadline)
        if self._learners is not None:
            await self._learners.close()


async def wait_ready(reference: Any) -> None:
    """Returns when the object is there; raises what its task raised."""
    await reference
