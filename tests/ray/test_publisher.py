"""The publisher's objects outlive whoever packed them and are pulled from another node whole; a joiner gets the
newest weights or, where they are gone, the checkpoint's."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray._private.internal_api import node_stats
from ray.exceptions import RayActorError
from ray.experimental import get_object_locations

from residency.actors.engine_config import EngineHealth
from residency.actors.joining import join_generator
from residency.actors.publisher import start_publisher
from residency.actors.rank_buckets import pull_buckets
from residency.platform.errors import RoleError, WeightUpdateError
from residency.platform.records import PolicyVersion
from residency.training.folder_tensors import folder_tensors
from residency.training.update_phases import LatePhaseError
from residency.training.weight_buckets import Staging, WeightsManifest, digest, staged, unpack_bucket
from residency.training.weights_echo import WeightsEcho

DEADLINE_SECONDS = 60
SHAPE = (1024, 256)
BUCKETS_A_VERSION = 2


class Packer:
    """Stands where a learner's rank stands: only rank 0 yields, from one staging buffer."""

    def __init__(self, rank: int = 0) -> None:
        self._rank = rank

    def publish_weights(self, label: str) -> Iterator[Any]:
        step = int(label.removeprefix("rl@").removesuffix("-late"))
        if step < 0:
            raise WeightUpdateError(f"rank {self._rank} has no weights of step {step}")
        if self._rank:
            if label.endswith("-late"):
                time.sleep(DEADLINE_SECONDS)
            return
        buckets = [[(name, torch.full(SHAPE, float(value)))] for name, value in (("first", step), ("second", -step))]
        yield from staged(buckets, Staging(), PolicyVersion(incarnation=0, step=step))


def start_ranks(cluster: Any) -> list[Any]:
    packer = ray.remote(Packer).options(num_cpus=0.1, **cluster.on(cluster.right))
    return [packer.remote(rank) for rank in (0, 1)]


@pytest.fixture(scope="module")
def ranks(ray_cluster: Any) -> list[Any]:
    """For the tests that do not kill them: each start of one costs seconds."""
    return start_ranks(ray_cluster)


def pull(manifest: WeightsManifest, refs: list[Any]) -> dict[str, torch.Tensor]:
    buffers: list[np.ndarray] = ray.get(refs, timeout=DEADLINE_SECONDS)
    return {
        name: tensor
        for spec, buffer in zip(manifest.buckets, buffers, strict=True)
        for name, tensor in unpack_bucket(spec, buffer, "test")
    }


def test_buckets_outlive_the_learner_that_packed_them(ray_cluster: Any) -> None:
    publisher = start_publisher(**ray_cluster.on(ray_cluster.left))
    ranks = start_ranks(ray_cluster)
    manifest, refs = ray.get(publisher.collect.remote(ranks, "rl@7", 30), timeout=DEADLINE_SECONDS)
    locations = get_object_locations(refs)
    assert [locations[ref]["node_ids"] for ref in refs] == [[ray_cluster.right]] * 2, "packed and kept on their node"
    del refs
    for rank in ranks:
        ray.kill(rank)
    with pytest.raises(RayActorError):
        ray.get(ranks[0].__ray_ready__.remote(), timeout=DEADLINE_SECONDS)
    time.sleep(1)  # by now the dead process' objects would be gone
    latest, refs = ray.get(publisher.latest.remote(), timeout=DEADLINE_SECONDS)
    assert latest == manifest
    pulled = pull(latest, refs)
    assert torch.equal(pulled["first"], torch.full(SHAPE, 7.0))
    assert torch.equal(pulled["second"], torch.full(SHAPE, -7.0))


def test_a_failing_rank_is_named_and_the_old_version_stays(ray_cluster: Any) -> None:
    publisher, ranks = start_publisher(**ray_cluster.on(ray_cluster.left)), start_ranks(ray_cluster)
    ray.get(publisher.collect.remote(ranks, "rl@1", 30), timeout=DEADLINE_SECONDS)
    with pytest.raises(WeightUpdateError, match="rank 0 has no weights of step -1"):
        ray.get(publisher.collect.remote(ranks, "rl@-1", 30), timeout=DEADLINE_SECONDS)
    ray.kill(ranks[1])
    with pytest.raises(RayActorError):
        ray.get(publisher.collect.remote(ranks, "rl@2", 30), timeout=DEADLINE_SECONDS)
    assert ray.get(publisher.versions.remote()) == [PolicyVersion(incarnation=0, step=1)]


def test_a_rank_that_is_late_is_named_with_its_phase(ray_cluster: Any) -> None:
    publisher, ranks = start_publisher(**ray_cluster.on(ray_cluster.left)), start_ranks(ray_cluster)
    manifest, _ = ray.get(publisher.collect.remote(ranks, "rl@1", 60), timeout=DEADLINE_SECONDS)
    assert manifest.seconds.keys() == {"gather", "put"}
    assert all(seconds > 0 for seconds in manifest.seconds.values())
    with pytest.raises(LatePhaseError, match=r"learner rank 1 in gather, .* 2 buckets in the store") as late:
        ray.get(publisher.collect.remote(ranks, "rl@2-late", 8), timeout=DEADLINE_SECONDS)
    assert late.value.cause.phase == "gather"  # pyright: ignore[reportAttributeAccessIssue] (Ray wraps it)
    assert ray.get(publisher.versions.remote()) == [PolicyVersion(incarnation=0, step=1)]
    for rank in ranks:
        ray.kill(rank)


def test_a_published_folder_arrives_bit_for_bit_in_small_buckets(ray_cluster: Any, tiny_student_dir: Path) -> None:
    publisher = start_publisher(**ray_cluster.on(ray_cluster.right))
    version = PolicyVersion(incarnation=0, step=1)
    manifest, refs = ray.get(
        publisher.publish_folder.remote(str(tiny_student_dir), version, "base", 1_000_000), timeout=DEADLINE_SECONDS
    )
    assert len(refs) == len(manifest.buckets) > 5
    pulled = pull(manifest, refs)
    wanted = dict(folder_tensors(tiny_student_dir))
    assert pulled.keys() == wanted.keys()
    assert all(torch.equal(pulled[name], wanted[name]) for name in wanted)


class PullingGenerator:
    """Takes weights as a generator does, pulls and digests every bucket, but has no model to load them into."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        self.version, self.label = version_of(0), "base"

    def update_weights(self, manifest: WeightsManifest, bucket_refs: list[Any]) -> WeightsEcho:
        if manifest.label == "rl@13":
            os.kill(os.getpid(), signal.SIGKILL)
        buffers = pull_buckets(manifest, bucket_refs, DEADLINE_SECONDS)
        for spec, buffer in zip(manifest.buckets, buffers, strict=True):
            unpack_bucket(spec, buffer, "test")
        self.version, self.label = manifest.version, manifest.label
        digests = tuple(digest(buffer) for buffer in buffers)
        return WeightsEcho(version=self.version, label=self.label, digests=digests, seconds={})

    def health(self) -> EngineHealth:
        return EngineHealth(alive=True, version=self.version, label=self.label, running=0, waiting=0)


class AwaitingGenerator(PullingGenerator):
    """Waits for each bucket and lets Ray's error through, as simulated engines do."""

    async def update_weights(self, manifest: WeightsManifest, bucket_refs: list[Any]) -> WeightsEcho:  # type: ignore[override]
        for bucket in bucket_refs:
            await bucket
        return super().update_weights(manifest, bucket_refs)


class LastAnswer:
    """Stands where a publisher stands that died just after it had answered: the references are all it has."""

    def __init__(self, published: list[Any]) -> None:
        self._published = published

    def latest(self) -> list[Any]:
        return self._published


@dataclass
class Joiner:
    """One generator on the right node that joins, the checkpoint it may fall back to, and the events it leaves."""

    generator: Any
    checkpoint: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    def join(self, publisher: Any, checkpoint_step: int) -> PolicyVersion:
        """The version that it says it has; its health must say the same."""
        joined = asyncio.run(
            join_generator(
                self.generator, "generator-1", publisher, self.checkpoint, version_of(checkpoint_step),
                lambda kind, **details: self.events.append({"kind": kind, **details}), DEADLINE_SECONDS,
            )
        )  # fmt: skip
        health: EngineHealth = ray.get(self.generator.health.remote(), timeout=DEADLINE_SECONDS)
        assert health.version == joined
        return joined


def version_of(step: int) -> PolicyVersion:
    return PolicyVersion(incarnation=0, step=step)


def kill_9(actor: Any) -> None:
    os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid()), timeout=DEADLINE_SECONDS), signal.SIGKILL)
    with pytest.raises(RayActorError):
        ray.get(actor.__ray_ready__.remote(), timeout=DEADLINE_SECONDS)


def start_generator(cluster: Any) -> Any:
    return ray.remote(PullingGenerator).options(num_cpus=0.1, **cluster.on(cluster.right)).remote()


@pytest.fixture(scope="module")
def generator(ray_cluster: Any) -> Any:
    return start_generator(ray_cluster)


@pytest.fixture
def joiner(generator: Any, tiny_student_dir: Path) -> Joiner:
    ray.get(generator.start_over.remote(), timeout=DEADLINE_SECONDS)
    return Joiner(generator, tiny_student_dir)


def test_a_joiner_gets_the_latest_weights_although_their_learner_is_dead(ray_cluster: Any, joiner: Joiner) -> None:
    publisher, ranks = start_publisher(**ray_cluster.on(ray_cluster.left)), start_ranks(ray_cluster)
    for step in (7, 8):
        ray.get(publisher.collect.remote(ranks, f"rl@{step}", 30), timeout=DEADLINE_SECONDS)
    kill_9(ranks[0])
    assert joiner.join(publisher, checkpoint_step=5) == version_of(8)
    assert joiner.join(publisher, checkpoint_step=5) == version_of(8), "a second time there is nothing to do"
    assert joiner.events == []


def died_after_its_answer(ray_cluster: Any, ranks: list[Any]) -> tuple[Any, Any]:
    """A publisher that is dead, and who has its last answer: weights rl@8, which it owned."""
    publisher = start_publisher(**ray_cluster.on(ray_cluster.left))
    published = ray.get(publisher.collect.remote(ranks, "rl@8", 30), timeout=DEADLINE_SECONDS)
    last_answer: Any = ray.remote(LastAnswer).options(num_cpus=0).remote(published)
    ray.get(last_answer.__ray_ready__.remote(), timeout=DEADLINE_SECONDS)
    del published
    kill_9(publisher)
    return publisher, last_answer


def test_a_joiner_falls_back_to_the_checkpoint_where_the_publisher_is_dead(
    ray_cluster: Any, ranks: list[Any], joiner: Joiner
) -> None:
    publisher, last_answer = died_after_its_answer(ray_cluster, ranks)
    assert joiner.join(publisher, checkpoint_step=5) == version_of(5)
    assert joiner.join(last_answer, checkpoint_step=5) == version_of(5), "it answered, but what it owned is gone"
    died, gone = joiner.events
    assert died["kind"] == gone["kind"] == "joined_from_checkpoint"
    assert died["version"] == gone["version"] == "0.5"
    assert died["label"] == joiner.checkpoint.name
    assert "the publisher died" in died["cause"]
    assert "rl@8 (0.8) are gone" in gone["cause"]


def test_a_joiner_that_says_only_that_an_object_is_lost_falls_back_as_well(
    ray_cluster: Any, ranks: list[Any], tiny_student_dir: Path
) -> None:
    joiner = Joiner(ray.remote(AwaitingGenerator).options(num_cpus=0.1).remote(), tiny_student_dir)
    _, last_answer = died_after_its_answer(ray_cluster, ranks)
    assert joiner.join(last_answer, checkpoint_step=5) == version_of(5)
    assert "that is lost" in joiner.events[0]["cause"]


def test_a_publisher_that_has_nothing_yet_leaves_a_joiner_at_the_checkpoint(ray_cluster: Any, joiner: Joiner) -> None:
    publisher = start_publisher(**ray_cluster.on(ray_cluster.left))
    assert joiner.join(publisher, checkpoint_step=0) == version_of(0)
    assert joiner.events == [], "it was started with these weights"
    assert joiner.join(publisher, checkpoint_step=4) == version_of(4), "a new publisher after the first one's death"
    assert [event["cause"] for event in joiner.events] == ["nothing has been published yet"]
    assert ray.get(publisher.latest.remote(), timeout=DEADLINE_SECONDS) is None


def test_a_joiner_that_dies_taking_weights_is_no_reason_to_fall_back(
    ray_cluster: Any, ranks: list[Any], tiny_student_dir: Path
) -> None:
    publisher = start_publisher(**ray_cluster.on(ray_cluster.left))
    joiner = Joiner(start_generator(ray_cluster), tiny_student_dir)
    ray.get(publisher.collect.remote(ranks, "rl@13", 30), timeout=DEADLINE_SECONDS)
    with pytest.raises(RoleError, match="generator-1 died"):
        joiner.join(publisher, checkpoint_step=5)
    assert joiner.events == []


def test_old_versions_are_freed_unless_somebody_needs_them(ray_cluster: Any, ranks: list[Any]) -> None:
    publisher = start_publisher(keep=1, **ray_cluster.on(ray_cluster.left))
    assert ray.get(publisher.latest.remote(), timeout=DEADLINE_SECONDS) is None
    before = num_objects(ray_cluster.right)

    def publish(step: int) -> list[PolicyVersion]:
        ray.get(publisher.collect.remote(ranks, f"rl@{step}", 30), timeout=DEADLINE_SECONDS)
        return ray.get(publisher.versions.remote())

    assert publish(1) == [version_of(1)]
    assert num_objects(ray_cluster.right) - before == BUCKETS_A_VERSION
    assert ray.get(publisher.retain.remote([version_of(1)])) == [version_of(1)]
    assert publish(2) == [version_of(1), version_of(2)]
    assert publish(3) == [version_of(1), version_of(3)], "the newest, and what a generator still has"
    assert num_objects(ray_cluster.right) - before == 2 * BUCKETS_A_VERSION
    # the generator takes the third and then leaves; the newest stays for who joins
    assert ray.get(publisher.retain.remote([version_of(3)])) == [version_of(3)]
    assert ray.get(publisher.retain.remote([])) == [version_of(3)]
    assert num_objects(ray_cluster.right) - before == BUCKETS_A_VERSION


def num_objects(node_id: str) -> int:
    """Objects in a node's store, once their number has stood still for a second: Ray frees them a moment later."""
    node = next(node for node in ray.nodes() if node["NodeID"] == node_id)
    seen: list[int] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(seen) < 6 or len(set(seen[-6:])) > 1:
        assert time.monotonic() < deadline, f"the store does not come to rest: {seen}"
        stats: Any = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"])
        seen.append(stats.store_stats.num_local_objects)
        time.sleep(0.2)
    return seen[-1]
