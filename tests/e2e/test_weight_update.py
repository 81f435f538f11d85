"""A weight swap across two nodes, proven by outputs and logprobs, and refused whole where anything is wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray
from ray.experimental import get_object_locations

from residency.platform.errors import WeightUpdateError
from residency.platform.records import PolicyVersion

SAMPLED = ("token_ids", "logprobs", "text")


def sample(rig: Any) -> list[dict[str, Any]]:
    return rig.generate(rig.requests(4, 1, seed=11)).to_pylist()


def told(traces: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(trace[name] for name in SAMPLED) for trace in traces]


def test_weights_go_there_and_back(rig: Any, ray_cluster: Any, trainer_logprobs: Callable[..., list[float]]) -> None:
    before = sample(rig)
    base, base_refs = rig.publish("base", 1)
    other, other_refs = rig.publish("other", 2)
    locations = get_object_locations(other_refs)
    assert all(locations[ref]["node_ids"] == [ray_cluster.left] for ref in other_refs), "published on the left node"

    echo = rig.update(other, other_refs)
    assert (echo.version, echo.label) == (other.version, "other")
    assert echo.digests == tuple(bucket.digest for bucket in other.buckets)
    assert set(echo.seconds) == {"drain", "pull", "verify", "load", "reset"}
    assert rig.answer(rig.generator.policy_version.remote()) == PolicyVersion(incarnation=0, step=2)
    changed = sample(rig)
    assert all(trace["model"] == "other" and set(trace["policy_versions"]) == {2} for trace in changed)
    assert all(a != b for a, b in zip(told(before), told(changed), strict=True))
    # the new weights really are all there (vision tower, tied head): a transformers forward of that folder agrees
    differences = [
        abs(ours - theirs)
        for trace, png in zip(changed, rig.media.column("png").to_pylist(), strict=True)
        for ours, theirs in zip(trace["logprobs"], trainer_logprobs(rig.folders["other"], trace, png, 1.0), strict=True)
    ]
    assert np.mean(differences) <= 1e-5, sorted(differences)[::6]

    rig.update(base, base_refs)
    assert told(sample(rig)) == told(before), "and back, bit for bit"


def test_a_flipped_byte_is_refused_and_the_old_weights_serve_on(rig: Any) -> None:
    before = sample(rig)
    manifest, refs = rig.publish("other", 3)
    buffer = rig.answer(refs[-1]).copy()
    buffer[len(buffer) // 2] ^= 1
    with pytest.raises(WeightUpdateError, match="arrived with digest"):
        rig.update(manifest, [*refs[:-1], ray.put(buffer)])
    after = sample(rig)
    assert told(after) == told(before)
    assert [t["policy_versions"] for t in after] == [t["policy_versions"] for t in before]


def test_missing_and_foreign_tensors_are_named(rig: Any) -> None:
    before = sample(rig)
    manifest, refs = rig.publish("other", 4)
    with pytest.raises(WeightUpdateError, match="bucket references"):
        rig.update(manifest, refs[:-1])
    short = replace(manifest, buckets=manifest.buckets[:-1])
    name = sorted(slot.name for slot in manifest.buckets[-1].slots)[0]
    with pytest.raises(WeightUpdateError, match=rf"missing .*{name.rsplit('.', 2)[-2]}"):
        rig.update(short, refs[:-1])
    slot = manifest.buckets[0].slots[0]
    foreign = replace(manifest.buckets[0], slots=(replace(slot, name="nobody.weight"), *manifest.buckets[0].slots[1:]))
    with pytest.raises(WeightUpdateError, match=r"unexpected .*nobody\.weight"):
        rig.update(replace(manifest, buckets=(foreign, *manifest.buckets[1:])), refs)
    assert told(sample(rig)) == told(before)


def test_an_update_waits_for_what_runs_and_what_comes_after_gets_the_new_weights(rig: Any) -> None:
    from residency.platform.sampling import SamplingConfig

    manifest, refs = rig.publish("base", 5)
    running = rig.generator.generate.remote(rig.requests(8, 4), SamplingConfig(temperature=1.0, max_new_tokens=40))
    while not rig.answer(rig.generator.health.remote()).running:
        assert not ray.wait([running], timeout=0)[0], "it must still run when the update is asked for"
    update = rig.generator.update_weights.remote(manifest, refs)
    echo = rig.answer(update)
    assert echo.version == manifest.version
    versions = {v for row in rig.answer(running).column("policy_versions").to_pylist() for v in row}
    assert manifest.version.packed not in versions or len(versions) == 2, "each trace by one version"
    assert all(len(set(row)) == 1 for row in rig.answer(running).column("policy_versions").to_pylist())
    assert {v for trace in sample(rig) for v in trace["policy_versions"]} == {manifest.version.packed}
