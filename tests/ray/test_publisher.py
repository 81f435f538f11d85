"""The publisher's objects outlive whoever packed them, and are pulled from another node whole."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.exceptions import RayActorError
from ray.experimental import get_object_locations

from residency.actors.publisher import start_publisher
from residency.platform.errors import WeightUpdateError
from residency.platform.records import PolicyVersion
from residency.training.folder_tensors import folder_tensors
from residency.training.weight_buckets import WeightsManifest, pack_bucket, unpack_bucket

DEADLINE_SECONDS = 60
SHAPE = (1024, 256)


class Packer:
    """Stands where a learner's rank stands: only rank 0 yields, from one staging buffer."""

    def __init__(self, rank: int = 0) -> None:
        self._rank = rank

    def publish_weights(self, label: str) -> Iterator[np.ndarray | WeightsManifest]:
        step = int(label.removeprefix("rl@"))
        if step < 0:
            raise WeightUpdateError(f"rank {self._rank} has no weights of step {step}")
        if self._rank:
            return
        specs, staging = [], np.zeros(SHAPE[0] * SHAPE[1] * 4, np.uint8)
        for name, value in (("first", step), ("second", -step)):
            spec, buffer = pack_bucket([(name, torch.full(SHAPE, float(value)))], staging)
            specs.append(spec)
            yield buffer
        yield WeightsManifest(version=PolicyVersion(incarnation=0, step=step), label=label, buckets=tuple(specs))


def start_ranks(cluster: Any) -> list[Any]:
    packer = ray.remote(Packer).options(num_cpus=0.1, **cluster.on(cluster.right))
    return [packer.remote(rank) for rank in (0, 1)]


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


def test_the_oldest_version_is_forgotten(ray_cluster: Any) -> None:
    publisher, ranks = start_publisher(keep=2, **ray_cluster.on(ray_cluster.left)), start_ranks(ray_cluster)
    assert ray.get(publisher.latest.remote(), timeout=DEADLINE_SECONDS) is None
    for step in (1, 2, 3):
        ray.get(publisher.collect.remote(ranks, f"rl@{step}", 30), timeout=DEADLINE_SECONDS)
    versions = [PolicyVersion(incarnation=0, step=step) for step in (2, 3)]
    assert ray.get(publisher.versions.remote()) == versions
    assert ray.get(publisher.forget.remote(versions[1]))
    assert not ray.get(publisher.forget.remote(versions[1]))
    assert ray.get(publisher.versions.remote()) == versions[:1]
