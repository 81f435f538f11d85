"""What goes wrong while weights travel, on real engines, learners and a real publisher: each fault ends with its event,
and the work goes on."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import AsyncMock

import numpy as np
import pyarrow as pa
import pytest

from residency.platform.records import PolicyVersion
from residency.training.canary import CanaryComparison, CanaryError, CanaryReading, canary_error
from residency.training.mismatch.meter import BUDGETS
from residency.training.update_phases import IN_ENGINE, SHARES, phase_deadlines

Result = TypeVar("Result")
DEADLINE_SECONDS = 240.0
PATIENT: dict[str, float] = dict.fromkeys(IN_ENGINE, 120.0)
pytestmark = pytest.mark.timeout(600)


@dataclass
class Scene:
    """Two engines in a pool, two ZeRO-3 learner ranks, a publisher and the control between them, in one event loop."""

    loop: asyncio.AbstractEventLoop
    folders: dict[str, Path]
    control: Any = None
    pool: Any = None
    group: Any = None
    sabotage: "Saboteur | None" = None
    incarnation: int = 1
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def run(self, work: Awaitable[Result]) -> Result:
        return self.loop.run_until_complete(asyncio.wait_for(work, DEADLINE_SECONDS))

    def note(self, kind: str, **details: Any) -> None:
        self.events.append((kind, details))

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [details for each, details in self.events if each == kind]

    async def learn(self, label: str) -> PolicyVersion:
        """The learners hold this folder's weights, as a version that nobody has seen."""
        self.incarnation += 1
        self.events.clear()
        return await self.group.load_checkpoint(self.folders[label], incarnation=self.incarnation)

    async def all_serve(self, version: PolicyVersion) -> None:
        """Both seats are taken, and whoever sits there says that it serves this version."""
        await self.pool.ready()
        assert len(self.pool.members) == 2
        for member in self.pool.members:
            assert await member.handle.policy_version.remote() == version
        assert set(self.control.serving(self.pool).values()) == {version}

    def generating(self, num_prompts: int, max_new_tokens: int = 60) -> "asyncio.Task[pa.Table]":
        """A call that runs for a while on whichever engine is free."""
        from residency.actors.engine_requests import REQUEST_SCHEMA
        from residency.platform.sampling import SamplingConfig

        rows = [
            {"item_id": f"item{row}", "prompt": f"which side is the lesion on? {row}", "media": []}
            | {"prompt_mode": "direct", "num_samples": 8, "seed": 1000 * row}
            for row in range(num_prompts)
        ]
        requests = pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA)
        sampling = SamplingConfig(temperature=1.0, max_new_tokens=max_new_tokens)
        call = self.pool.call(lambda member: member.handle.generate.remote(requests, sampling), what="generating")
        return self.loop.create_task(call)

    async def busy_member(self) -> Any:
        """The engine that has sequences."""
        while True:
            for member in self.pool.members:
                if (await member.handle.health.remote()).running:
                    return member
            await asyncio.sleep(0.02)


class Saboteur:
    """The learner group, with one bucket of the next publication damaged in the store."""

    def __init__(self, group: Any) -> None:
        self._group, self.armed = group, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    async def publish_weights(self, publisher: Any, label: str) -> Any:
        import ray

        manifest, refs = await self._group.publish_weights(publisher, label)
        if self.armed:
            self.armed = False
            damaged = (await refs[-1]).copy()
            damaged[len(damaged) // 3] ^= 4
            refs = [*refs[:-1], ray.put(damaged)]
        return manifest, refs


@pytest.fixture(scope="module")
def scene(ray_cluster: Any, tiny_student_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    import torch
    from safetensors.torch import load_file, save_file

    other = tmp_path_factory.mktemp("faults") / "other"
    other.mkdir()
    for file in tiny_student_dir.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    generator = torch.Generator().manual_seed(3)
    moved = {
        name: weight + 0.05 * torch.randn(weight.shape, generator=generator)
        for name, weight in load_file(tiny_student_dir / "model.safetensors").items()
    }
    save_file(moved, other / "model.safetensors", metadata={"format": "pt"})
    scene = Scene(asyncio.new_event_loop(), {"base": tiny_student_dir, "other": other})
    opened: list[Callable[[], Awaitable[None]]] = []
    try:
        scene.run(open_scene(scene, opened))
        yield scene
    finally:
        for close in reversed(opened):
            scene.run(close())
        scene.loop.close()


async def open_scene(scene: Scene, opened: list[Callable[[], Awaitable[None]]]) -> None:
    import ray

    from residency.actors.engine_config import EngineConfig
    from residency.actors.generator import start_generator
    from residency.actors.learner_group import LearnerGroup
    from residency.platform.cli.role_pools import RolePools
    from residency.platform.cli.weights_control import WeightsControl
    from residency.platform.profiles import GeneratorConfig, LearnerConfig, Profile
    from residency.platform.recipe import OptimizerConfig
    from residency.training.canary import canary_media

    generators = GeneratorConfig(actors=2, cpus=0.5, threads=1)
    learners = LearnerConfig(actors=2, cpus=0.25, zero_stage=3)
    profile = Profile(name="faults", generators=generators, learners=learners, deadline_seconds=DEADLINE_SECONDS)
    config = EngineConfig(threads=1, max_sequences=32, max_model_len=128, max_batch_tokens=1024, kv_cache_gib=0.1)
    pools = RolePools(profile, scene.note)
    opened.append(pools.close)

    async def pool() -> Any:
        return scene.pool

    def new_incarnation() -> int:
        scene.incarnation += 1
        return scene.incarnation

    scene.control = WeightsControl(
        pools,
        profile,
        generators=pool,
        learners=lambda: scene.sabotage,  # pyright: ignore[reportArgumentType] (it stands before the group)
        look_after_learners=AsyncMock(),
        checkpoint=lambda name: scene.folders[name],
        new_incarnation=new_incarnation,
        event=scene.note,
        budget=BUDGETS["float32"],
        deadlines=PATIENT,
    )
    scene.pool = await pools.get(
        "generator",
        generators,
        lambda: start_generator(scene.folders["base"], config, placement=generators),
        requests_per_worker=4,
        prepare=scene.control.catch_up,
    )
    scene.group = await LearnerGroup.start(
        scene.folders["base"], learners, "float32", OptimizerConfig(learning_rate=1e-4), 10,
        ray.put(canary_media()), 0, DEADLINE_SECONDS, incarnation=1,
    )  # fmt: skip
    opened.append(scene.group.close)
    scene.sabotage = Saboteur(scene.group)
    await scene.pool.ready()


def test_a_sound_update_is_proven_and_its_phases_are_told(scene: Scene) -> None:
    for label in ("other", "base"):
        version = scene.run(scene.learn(label))
        served = scene.run(scene.control.publish_learners(f"rl-{label}"))
        assert set(served.values()) == {version}
        assert len(served) == 2
        scene.run(scene.all_serve(version))
        updates = scene.told("weights_updated")
        assert len(updates) == 2
        assert all(set(update["seconds"]) == set(SHARES) for update in updates)
        differences = {name: each.difference for name, each in scene.control.canaries.items()}
        assert differences.keys() == served.keys()
        assert max(differences.values()) <= BUDGETS["float32"], differences
        print(f"canary differences {differences}, seconds {updates[0]['seconds']}")
    start = time.perf_counter()
    for comparison in scene.control.canaries.values():
        scene.run(scene.group.canary_logprobs(comparison.reading))
    print(f"the learners' part of the canary: {(time.perf_counter() - start) / 2:.3f} s")


def test_in_flight_what_runs_goes_on(scene: Scene) -> None:
    before = scene.run(scene.control.publish_learners("rl-before")).popitem()[1]
    version = scene.run(scene.learn("other"))

    async def generate_all_along() -> list[pa.Table]:
        """Both engines have sequences at every moment of the update, however fast they and slow the learners are."""
        running = {scene.generating(4) for _ in range(4)}
        await scene.busy_member()
        update = scene.loop.create_task(scene.control.publish_learners("rl-in-flight", in_flight=True))
        tables: list[pa.Table] = []
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            tables += [call.result() for call in done]
            if not update.done():
                running |= {scene.generating(4) for _ in done}
        await update
        return tables

    tables = scene.run(generate_all_along())
    rows = [set(row) for table in tables for row in table.column("policy_versions").to_pylist()]
    assert set().union(*rows) == {before.packed, version.packed}
    assert {before.packed, version.packed} in rows, "one sequence that began before the update goes on after it"
    scene.run(scene.all_serve(version))
    assert not scene.told("canary_differs")


def test_a_flipped_byte_is_refused_and_the_weights_are_sent_again(scene: Scene) -> None:
    assert scene.sabotage is not None
    version = scene.run(scene.learn("base"))
    scene.sabotage.armed = True
    served = scene.run(scene.control.publish_learners("rl-flipped"))
    assert set(served.values()) == {version}
    refused = scene.told("update_refused")
    assert {event["generator"] for event in refused} == set(served)
    assert all(event["phase"] == "verify" and "arrived with digest" in event["cause"] for event in refused)
    assert not scene.told("generator_dropped")
    assert not scene.told("worker_lost"), "the old weights served on, and no engine is to blame"
    scene.run(scene.all_serve(version))


def test_a_phase_beyond_its_deadline_is_named_and_its_engine_replaced(scene: Scene) -> None:
    version = scene.run(scene.learn("other"))
    running = scene.generating(16)
    busy = scene.run(scene.busy_member())
    scene.control._deadlines = PATIENT | {"drain": 0.1}
    try:
        served = scene.run(scene.control.publish_learners("rl-late"))
    finally:
        scene.control._deadlines = PATIENT
    (dropped,) = scene.told("generator_dropped")
    assert dropped["generator"] == busy.name
    assert dropped["phase"] == "drain"
    assert f"{busy.name}: its engine in drain" in dropped["cause"]
    assert busy.name not in served
    assert set(served.values()) == {version}, "the update of the other counts"
    assert scene.run(running).num_rows == 16 * 8, "its requests were asked elsewhere"
    scene.run(scene.all_serve(version))
    assert [event["worker"] for event in scene.told("worker_lost")] == [busy.name]


def test_an_engine_that_is_killed_inside_an_update_is_replaced(scene: Scene) -> None:
    version = scene.run(scene.learn("base"))
    running = scene.generating(16)
    busy = scene.run(scene.busy_member())

    async def publish_and_kill() -> dict[str, PolicyVersion]:
        update = asyncio.ensure_future(scene.control.publish_learners("rl-killed"))
        while len(scene.control.serving(scene.pool)) < 2 or scene.control.wanted != version:
            await asyncio.sleep(0.01)  # until it is sent; the busy engine waits for what runs there
        await asyncio.sleep(0.1)
        assert not update.done(), "it was killed too late"
        os.kill(busy.birth.pid, signal.SIGKILL)
        return await update

    served = scene.run(publish_and_kill())
    (dropped,) = scene.told("generator_dropped")
    assert dropped["generator"] == busy.name
    assert "died in taking weights rl-killed" in dropped["cause"]
    assert busy.name not in served
    assert set(served.values()) == {version}
    assert scene.run(running).num_rows == 16 * 8
    scene.run(scene.all_serve(version))
    assert any(busy.name == event["worker"] for event in scene.told("worker_lost"))


def spoil(actor: Any) -> None:
    """In one engine's process: weights that arrived well are damaged before the canary is asked."""
    engine, steps = actor._engine._engine, actor._engine._steps
    forget = steps.forget_old_weights

    def forget_and_spoil(*args: Any) -> None:
        forget(*args)
        model = engine.model_executor.driver_worker.get_model()
        for name, weight in model.named_parameters():
            if name.endswith("model.norm.weight"):
                weight.data.mul_(1.2)

    steps.forget_old_weights = forget_and_spoil


def test_an_engine_whose_canary_differs_is_named_and_replaced(scene: Scene) -> None:
    version = scene.run(scene.learn("other"))
    spoiled, sound = scene.pool.members
    scene.run(spoiled.handle.__ray_call__.remote(spoil))
    served = scene.run(scene.control.publish_learners("rl-spoiled"))
    (differs,) = scene.told("canary_differs")
    assert differs["generator"] == spoiled.name
    gap = np.abs(np.subtract(differs["sampler_logprobs"], differs["trainer_logprobs"]))
    assert gap.mean() == pytest.approx(differs["difference"])
    assert differs["difference"] > 100 * BUDGETS["float32"]
    (dropped,) = scene.told("generator_dropped")
    assert (dropped["generator"], dropped["phase"]) == (spoiled.name, "canary")
    assert spoiled.name not in served
    assert served[sound.name] == version
    scene.run(scene.all_serve(version))


def test_where_all_canaries_differ_the_run_stops_with_both_vectors(scene: Scene) -> None:
    scene.run(scene.learn("base"))
    for member in scene.pool.members:
        scene.run(member.handle.__ray_call__.remote(spoil))
    names = {member.name for member in scene.pool.members}
    with pytest.raises(CanaryError, match="canary's mean logprob differs") as stopped:
        scene.run(scene.control.publish_learners("rl-all-spoiled"))
    assert {each.generator for each in stopped.value.comparisons} == names
    for each in stopped.value.comparisons:
        assert len(each.reading.logprobs) == len(each.trainer_logprobs) == len(each.reading.token_ids)
    assert names == {event["generator"] for event in scene.told("canary_differs")}
    assert not scene.told("generator_dropped"), "no engine alone is to blame"


def test_phases_share_the_deadline_and_a_canary_that_is_no_number_is_beyond_any_budget() -> None:
    assert sum(phase_deadlines(600.0).values()) == pytest.approx(600.0)
    reading = CanaryReading(
        version=PolicyVersion(incarnation=0, step=1), media=(), prompt_token_ids=(1,), token_ids=(2,), logprobs=(-1.0,)
    )
    for trainer, within in ((-1.0, True), (-1.1, False), (float("nan"), False)):
        comparison = CanaryComparison(generator="generator-1", reading=reading, trainer_logprobs=(trainer,))
        assert comparison.within(0.05) is within
    assert "generator-1" in str(canary_error([comparison], 0.05))
