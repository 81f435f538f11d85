"""The publisher dies between two calls: whoever needs it gets another one, and no role is blamed for it."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
from safetensors.numpy import save_file

from residency.actors.publisher import Published
from residency.platform.cli.role_pools import RolePools
from residency.platform.cli.weights_control import WeightsControl
from residency.platform.cluster import wait_for
from residency.platform.profiles import Profile
from residency.platform.records import PolicyVersion
from residency.training.weights_echo import WeightsEcho

SECONDS = 60.0
PROFILE = Profile(name="lost", deadline_seconds=SECONDS)


class Learners:
    """Stands where the learner group stands: its weights are those of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.step = folder, 0

    async def publish_weights(self, publisher: Any, label: str) -> Published:
        version = PolicyVersion(incarnation=1, step=self.step)
        published = publisher.publish_folder.remote(str(self.folder), version, label)
        return await wait_for(published, "the publisher", f"collecting {label}", SECONDS)


class Generators:
    """One engine that takes everything, and after whose update the publisher dies."""

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene

    async def each(self, verb: Any, *, what: str, seconds: float) -> dict[str, WeightsEcho]:
        await self.scene.kill_publisher()
        return {"generator-1": WeightsEcho(version=self.scene.control.wanted, label="", digests=(), seconds={})}


class Scene:
    def __init__(self, folder: Path) -> None:
        self.events: list[str] = []
        self.pools = RolePools(PROFILE, self.note)

        async def generators() -> Any:
            return Generators(self)

        self.control = WeightsControl(
            self.pools, PROFILE, generators=generators, learners=lambda: Learners(folder),  # type: ignore[arg-type]
            look_after_learners=AsyncMock(), checkpoint=lambda _: folder, new_incarnation=lambda: 1, event=self.note,
            budget=1.0,
        )  # fmt: skip

    def note(self, kind: str, **_: Any) -> None:
        self.events.append(kind)

    async def kill_publisher(self) -> None:
        """And nobody has noticed when this returns."""
        pool = await self.pools.get("publisher", PROFILE.publisher, lambda: None, requests_per_worker=1)
        await pool.ready()
        os.kill(pool.members[0].birth.pid, signal.SIGKILL)  # type: ignore[union-attr]


def test_weights_are_collected_and_let_go_of_through_a_new_one(ray_cluster: Any, tmp_path: Path) -> None:
    save_file({"w": np.ones(4, np.float32)}, tmp_path / "model.safetensors")

    async def scenario() -> list[str]:
        scene = Scene(tmp_path)
        try:
            await scene.control.collect("rl@0")
            await scene.kill_publisher()
            manifest, _ = published = await scene.control.collect("rl@1")  # through the dead one at first
            assert manifest.label == "rl@1"
            await scene.control.distribute(published, in_flight=False)  # it dies before it is told to let go
        finally:
            await scene.pools.close()
        return scene.events

    events = asyncio.run(asyncio.wait_for(scenario(), 4 * SECONDS))
    assert events.count("worker_lost") == 2
    assert "weights_updated" in events
