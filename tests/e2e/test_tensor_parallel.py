"""One engine of two ranks on one node says what one rank says, takes weights whole or not at all, and ends whole."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray

from residency.actors.engine_config import EngineConfig
from residency.actors.engine_ranks import mapped_segments
from residency.actors.generator import start_generator
from residency.actors.rank_buckets import MEMORY_NAME
from residency.platform.errors import RoleError, WeightUpdateError
from residency.training.model_folder import media_token_ids

TOLERANCE = 1e-4
DEAD_RANK_SECONDS = 30


@pytest.fixture(scope="module")
def pair(rig: Any, ray_cluster: Any) -> Iterator[Any]:
    """The rig once more, with a generator of two ranks; its publisher and media are the same."""
    config = EngineConfig(
        tensor_parallel=2, threads=1, max_sequences=32, max_model_len=128, max_batch_tokens=1024, kv_cache_gib=0.1
    )
    generator = start_generator(rig.folders["base"], config, label="base", **ray_cluster.on(ray_cluster.right))
    health = rig.answer(generator.health.remote())
    assert health.alive, health.cause
    rig.answer(generator.load_media.remote(rig.media_ref))
    yield replace(rig, generator=generator)
    ray.kill(generator)


def actor_of(pair: Any) -> psutil.Process:
    return psutil.Process(pair.answer(pair.generator.__ray_call__.remote(lambda _: os.getpid())))


def ranks_of(pair: Any) -> list[psutil.Process]:
    """The processes of the two ranks, in order: vLLM names them so."""
    ranks = sorted(
        (child for child in actor_of(pair).children() if "Worker_TP" in child.name()), key=lambda c: c.name()
    )
    assert len(ranks) == 2
    return ranks


def greedy(rig: Any) -> tuple[list[Any], np.ndarray]:
    """Tokens and logprobs of four image prompts and four of text."""
    traces = [*rig.generate(rig.requests(4, 1), temperature=0).to_pylist()]
    traces += rig.generate(rig.requests(4, 1, text_only=True), temperature=0).to_pylist()
    return [trace["token_ids"] for trace in traces], np.concatenate([trace["logprobs"] for trace in traces])


def shared_memory_of(process: psutil.Process) -> list[str]:
    """Where a process still holds buckets: open files and mappings."""
    home = Path(f"/proc/{process.pid}")
    files = [os.readlink(file) for file in (home / "fd").iterdir() if file.is_symlink()]
    return [name for name in [*files, *(home / "maps").read_text().splitlines()] if MEMORY_NAME in name]


def test_two_ranks_say_what_one_rank_says_also_after_an_update(rig: Any, pair: Any) -> None:
    said: dict[str, tuple[list[Any], np.ndarray]] = {}
    for step, label in enumerate(("base", "other", "base"), start=30):
        manifest, refs = rig.publish(label, step)
        for engine in (rig, pair):
            echo = engine.update(manifest, refs)
            assert (echo.version, echo.digests) == (manifest.version, tuple(b.digest for b in manifest.buckets))
            assert set(echo.seconds) == {"drain", "pull", "verify", "load", "reset", "canary"}
        (one_tokens, one_logprobs), (two_tokens, two_logprobs) = greedy(rig), greedy(pair)
        assert one_tokens == two_tokens
        assert np.abs(one_logprobs - two_logprobs).max() <= TOLERANCE
        before = said.setdefault(label, (two_tokens, two_logprobs))
        assert before[0] == two_tokens
        assert np.array_equal(before[1], two_logprobs), "the same weights, bit for bit"
    assert said["base"][0] != said["other"][0], "the update changed what is said"
    assert [shared_memory_of(process) for process in (actor_of(pair), *ranks_of(pair))] == [[], [], []]


def test_a_flipped_byte_is_refused_by_every_rank_and_the_next_update_is_taken(pair: Any) -> None:
    before = greedy(pair)
    manifest, refs = pair.publish("other", 40)
    buffer = pair.answer(refs[-1]).copy()
    buffer[len(buffer) // 2] ^= 1
    with pytest.raises(WeightUpdateError, match="arrived with digest"):
        pair.update(manifest, [*refs[:-1], ray.put(buffer)])
    after = greedy(pair)
    assert after[0] == before[0]
    assert np.array_equal(after[1], before[1])
    pair.update(manifest, refs)
    assert greedy(pair)[0] != before[0]


def test_media_tokens_are_never_sampled_by_two_ranks(pair: Any) -> None:
    banned = set(media_token_ids(pair.folders["base"]))
    traces = pair.generate(pair.requests(8, 16), temperature=2.0, max_new_tokens=24).to_pylist()
    sampled = [token for trace in traces for token in trace["token_ids"]]
    assert len(sampled) > 2000
    assert not banned & set(sampled)


def test_a_dead_rank_ends_the_engine_by_name_and_nothing_is_left(pair: Any) -> None:
    actor, ranks = actor_of(pair), ranks_of(pair)
    segments = set().union(*(mapped_segments(rank.pid) for rank in ranks))
    assert len([segment for segment in segments if segment.exists()]) >= 2, "vLLM's own, between the ranks"
    ranks[1].kill()
    deadline = time.monotonic() + DEAD_RANK_SECONDS
    while (health := pair.answer(pair.generator.health.remote())).alive:
        assert time.monotonic() < deadline, "an idle engine looks after its ranks"
        time.sleep(0.1)
    assert "rank 1 ended by SIGKILL" in health.cause
    with pytest.raises(RoleError, match="rank 1 ended by SIGKILL"):
        pair.generate(pair.requests(1, 1))
    pair.answer(pair.generator.close.remote())
    assert not any(rank.is_running() for rank in ranks)
    # Python's own tracker of shared resources lives as long as the actor's process
    assert all("resource_tracker" in " ".join(child.cmdline()) for child in actor.children())
    assert not [segment for segment in segments if segment.exists()]
