"""Simulated generators in one actor: called like real ones, repeatable, dead with their process."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray.exceptions import RayActorError

from residency.actors.engine_requests import REQUEST_SCHEMA
from residency.actors.simulated_answers import load_simulated_config
from residency.actors.simulated_host import SimulatedGenerator, simulated_generators, start_simulated_host
from residency.platform.arrow_tables import to_table
from residency.platform.errors import RoleError, WeightUpdateError
from residency.platform.records import AnswerKind, Family, Item, PolicyVersion, Split
from residency.platform.sampling import SamplingConfig
from residency.training.weight_buckets import BucketSpec, WeightsManifest

DEADLINE_SECONDS = 120
SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=256)
FAST = load_simulated_config().model_copy(
    update={"step_seconds": 0.0001, "sequence_seconds": 0.0, "update_seconds": 0.01, "right_probability": 1.0}
)
NEXT = PolicyVersion(incarnation=0, step=1)
ITEM = Item(
    id="item-0", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k", question="which?",
    options=("ct", "mr"), answer="mr", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
)  # fmt: skip


def requests_of(number: int) -> pa.Table:
    row = {
        "item_id": f"item-{number}", "prompt": "which?", "media": [], "prompt_mode": "direct", "num_samples": 2,
        "seed": number,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=REQUEST_SCHEMA)


def wait_for(refs: Any) -> Any:
    return ray.get(refs, timeout=DEADLINE_SECONDS)


def ask_all(generators: list[SimulatedGenerator]) -> list[pa.Table]:
    refs = [each.generate.remote(requests_of(number), SAMPLING) for number, each in enumerate(generators)]
    return wait_for(refs)


def test_many_generators_share_an_actor(ray_cluster: Any, tmp_path: Path) -> None:
    log, items = tmp_path / "asked.jsonl", ray.put(to_table([ITEM], Item))
    host = start_simulated_host(
        64, FAST, seed=3, items=items, log=log, num_cpus=0.1, **ray_cluster.on(ray_cluster.right)
    )
    generators = simulated_generators(host, 64)
    tables = ask_all(generators)
    assert [table.column("item_id").to_pylist() for table in tables] == [[f"item-{n}"] * 2 for n in range(64)]
    assert set(tables[0].column("text").to_pylist()) <= {"mr", ""}  # it knows the item, and is always right
    assert len(log.read_text().splitlines()) == 64

    other = simulated_generators(start_simulated_host(1, FAST, seed=3, items=items, num_cpus=0.1), 1)[0]
    again = wait_for(other.generate.remote(requests_of(5), SAMPLING))
    assert again.drop(["seconds"]).equals(tables[5].drop(["seconds"]))

    ray.kill(host)
    with pytest.raises(RayActorError):
        wait_for(generators[7].health.remote())


def test_each_has_weights_and_an_end_of_its_own(ray_cluster: Any) -> None:
    host = start_simulated_host(2, FAST, num_cpus=0.1)
    first, second = simulated_generators(host, 2)
    assert wait_for(first.load_media.remote(ray.put(pa.table({"hash": ["a", "b"]})))) == 2
    manifest = WeightsManifest(version=NEXT, label="sft", buckets=(BucketSpec(slots=(), num_bytes=0, digest="d"),))
    echo = wait_for(first.update_weights.remote(manifest, [ray.put(b"")]))
    assert (echo.version, echo.label, echo.digests) == (NEXT, "sft", ("d",))
    with pytest.raises(WeightUpdateError, match="0 buckets"):
        wait_for(first.update_weights.remote(manifest, []))
    versions = wait_for([first.policy_version.remote(), second.policy_version.remote()])
    assert versions == [NEXT, PolicyVersion(incarnation=0, step=0)]

    wait_for(first.close.remote())
    with pytest.raises(RoleError, match="simulated-engine-0 is dead"):
        wait_for(first.generate.remote(requests_of(0), SAMPLING))
    assert not wait_for(first.health.remote()).alive
    assert ask_all([second, second])[1].num_rows == 2
    ray.kill(host)


def test_health_answers_while_it_generates(ray_cluster: Any) -> None:
    host = start_simulated_host(1, FAST.model_copy(update={"step_seconds": 0.05, "median_tokens": 250}), num_cpus=0.1)
    (one,) = simulated_generators(host, 1)
    slow = one.generate.remote(requests_of(0), SAMPLING)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while wait_for(one.health.remote()).running == 0:
        assert time.monotonic() < deadline
    assert ray.wait([slow], timeout=0) == ([], [slow])
    ray.kill(host)
