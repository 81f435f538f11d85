"""The generator on its own node: rows in, traces out, with the tokens and logprobs that training takes as they are."""

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import ray
from ray.exceptions import TaskCancelledError
from ray.experimental import get_object_locations

from residency.platform.arrow_tables import from_table
from residency.platform.errors import BadInputError, DataError
from residency.platform.prompts import prompt_hash
from residency.platform.records import Trace
from residency.platform.sampling import SamplingConfig
from residency.training.model_folder import media_token_ids


def test_traces_come_ordered_and_whole_from_another_node(rig: Any, ray_cluster: Any) -> None:
    requests = rig.requests(num_prompts=5, num_samples=3)
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=12)
    ref = rig.generator.generate.remote(ray.put(requests), sampling)
    traces = from_table(rig.answer(ref), Trace)
    assert [(t.item_id, t.sample_index) for t in traces] == [(f"item{row}", k) for row in range(5) for k in range(3)]
    assert len({trace.id for trace in traces}) == 15
    image_token = media_token_ids(rig.folders["base"])
    for trace, prompt in zip(traces, np.repeat(requests.column("prompt").to_pylist(), 3), strict=True):
        assert len(trace.token_ids) == len(trace.logprobs) == len(trace.policy_versions) > 0
        assert (trace.finish_reason == "length") == (len(trace.token_ids) == 12)
        assert trace.prompt_hash == prompt_hash(prompt)
        assert sum(token in image_token for token in trace.prompt_token_ids) == 9 + 2, "84×84: 9 tokens, begin, end"
    # who asked holds the first copy of the media; the generator's node has one more, however often it is used
    locations = get_object_locations([rig.media_ref])[rig.media_ref]["node_ids"]
    assert sorted(locations) == sorted([ray_cluster.left, ray_cluster.right])


def test_a_seed_decides_and_sample_k_is_seed_plus_k(rig: Any) -> None:
    first = rig.generate(rig.requests(3, 2, seed=5))
    again = rig.generate(rig.requests(3, 2, seed=5))
    assert first.drop_columns("seconds").equals(again.drop_columns("seconds")), "tokens and logprobs, bit for bit"
    shifted = rig.generate(rig.requests(3, 1, seed=6))
    assert shifted.column("token_ids").to_pylist() == first.column("token_ids").to_pylist()[1::2]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "text_only"),
    [
        (1.0, 0, 1.0, False),
        (0.7, 0, 1.0, False),
        (1.0, 0, 1.0, True),
        (0.8, 20, 1.0, False),
        (1.3, 0, 0.7, False),
        (0.8, 20, 0.6, False),
    ],
)
def test_logprobs_are_those_of_a_transformers_forward(
    rig: Any,
    trainer_logprobs: Callable[..., list[float]],
    temperature: float,
    top_k: int,
    top_p: float,
    text_only: bool,
) -> None:
    """Under the same bans, temperature, top-k and top-p."""
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    traces = rig.generate(rig.requests(4, 1, text_only=text_only), **sampling).to_pylist()
    pngs = [None] * 4 if text_only else rig.media.column("png").to_pylist()
    differences = [
        abs(ours - theirs)
        for trace, png in zip(traces, pngs, strict=True)
        for ours, theirs in zip(
            trace["logprobs"], trainer_logprobs(rig.folders["base"], trace, png, **sampling), strict=True
        )
    ]
    assert len(differences) >= 20
    assert max(differences) <= 1e-5
    if top_k or top_p < 1:  # and they did something: what was left is renormalised
        plain = [trainer_logprobs(rig.folders["base"], t, p, temperature) for t, p in zip(traces, pngs, strict=True)]
        gains = [
            ours - raw
            for t, raws in zip(traces, plain, strict=True)
            for ours, raw in zip(t["logprobs"], raws, strict=True)
        ]
        assert min(gains) > 0.1


def test_media_tokens_are_never_sampled(rig: Any) -> None:
    banned = set(media_token_ids(rig.folders["base"]))
    traces = rig.generate(rig.requests(8, 16), temperature=2.0, max_new_tokens=24).to_pylist()  # vLLM's hottest
    sampled = [token for trace in traces for token in trace["token_ids"]]
    assert len(sampled) > 2000, (
        "an untrained model samples evenly: dozens of these would be media tokens without the ban"
    )
    assert not banned & set(sampled)


def test_greedy_is_the_most_likely_token_and_refuses_copies(rig: Any) -> None:
    greedy = rig.generate(rig.requests(2, 1), temperature=0).to_pylist()
    sampled = rig.generate(rig.requests(2, 32), max_new_tokens=1).to_pylist()
    for trace in greedy:
        tried = [other["logprobs"][0] for other in sampled if other["item_id"] == trace["item_id"]]
        assert len(set(tried)) > 1, "several tokens were tried"
        assert trace["logprobs"][0] >= max(tried) - 1e-5
    with pytest.raises(BadInputError, match="2 samples at temperature 0"):
        rig.generate(rig.requests(2, 2), temperature=0)


def test_a_request_that_cannot_be_met_says_why_and_the_engine_goes_on(rig: Any) -> None:
    requests = rig.requests(2, 1)
    unknown = requests.set_column(2, "media", [["0" * 64], ["0" * 64]])
    with pytest.raises(DataError, match="not among the 4 images"):
        rig.generate(unknown)
    # one question that is too long costs itself an answer, nobody else
    endless = requests.set_column(1, "prompt", [["how many cells are there? " * 40, requests["prompt"][1].as_py()]])
    refused, answered = rig.generate(endless).to_pylist()
    assert (refused["finish_reason"], refused["token_ids"], refused["logprobs"]) == ("refused", [], [])
    assert "refused the request of item item0" in refused["text"]
    assert answered["finish_reason"] in ("stop", "length")
    assert answered["token_ids"]
    with pytest.raises(Exception, match=r"temperature must be in \[0, 2\]"):
        rig.generate(requests, temperature=5.0)
    assert rig.generate(requests).num_rows == 2


def test_many_calls_of_one_group_say_what_one_call_of_all_does(rig: Any) -> None:
    requests = rig.requests(12, 4, seed=21)
    whole = rig.generate(requests)
    refs = [rig.start(requests.slice(row, 1)) for row in range(12)]
    single = pa.concat_tables([rig.answer(ref) for ref in refs])
    for name in ("id", "item_id", "sample_index", "token_ids", "policy_versions", "text", "finish_reason"):
        assert single.column(name).to_pylist() == whole.column(name).to_pylist(), name


def test_a_short_answer_does_not_wait_for_a_long_one_that_came_before(rig: Any) -> None:
    long = rig.start(rig.requests(2, 4), max_new_tokens=60)
    rig.wait_until_running(long)
    short = rig.start(rig.requests(1, 1, seed=9), max_new_tokens=2)
    first, _ = ray.wait([long, short], num_returns=1, timeout=60)
    assert first == [short]
    assert rig.answer(long).num_rows == 8


def test_a_group_computes_its_prompt_once(rig: Any) -> None:
    """By vLLM's own count of prompt tokens looked up and found."""
    num_groups, num_samples, block = 6, 8, 32

    def count(actor: Any) -> Any:
        from vllm.v1.metrics.stats import PrefixCacheStats

        cache = actor._engine._engine.engine_core.engine_core.scheduler.kv_cache_manager
        counted, cache.prefix_cache_stats = cache.prefix_cache_stats, PrefixCacheStats()
        cache.log_stats = counted is None
        if counted is not None:
            cache.prefix_cache_stats = None
        return None if counted is None else (counted.queries, counted.hits)

    assert rig.answer(rig.generator.__ray_call__.remote(count)) is None
    traces = rig.generate(rig.requests(num_groups, num_samples, seed=31)).to_pylist()
    asked, found = rig.answer(rig.generator.__ray_call__.remote(count))
    lengths = [len(trace["prompt_token_ids"]) for trace in traces[::num_samples]]
    assert asked == num_samples * sum(lengths)
    whole_blocks = sum((length - 1) // block * block for length in lengths)  # the last token is always computed
    assert found >= (num_samples - 1) * whole_blocks > 0


@pytest.mark.parametrize("num_samples", [1, 4])
def test_a_cancelled_call_leaves_the_engine_at_once_and_nobody_else_does(rig: Any, num_samples: int) -> None:
    kept = rig.start(rig.requests(1, 1, seed=3), max_new_tokens=60)
    left = rig.start(rig.requests(16, num_samples), max_new_tokens=60)
    while rig.answer(rig.generator.health.remote()).running < 3:
        assert not ray.wait([left], timeout=0)[0]
    ray.cancel(left)
    with pytest.raises(TaskCancelledError):
        rig.answer(left)
    health = rig.answer(rig.generator.health.remote())
    deadline = time.monotonic() + 10
    while health.running > 1 or health.waiting:
        assert time.monotonic() < deadline, health
        health = rig.answer(rig.generator.health.remote())
    assert rig.answer(kept).num_rows == 1
    assert rig.answer(rig.generator.health.remote()).running == 0

    def leftovers(actor: Any) -> list[int]:
        engine = actor._engine._engine
        processor, scheduler = engine.output_processor, engine.engine_core.engine_core.scheduler
        return [len(each) for each in (processor.request_states, processor.parent_requests, scheduler.requests)]

    assert rig.answer(rig.generator.__ray_call__.remote(leftovers)) == [0, 0, 0]
    alone = rig.generate(rig.requests(1, 1, seed=3), max_new_tokens=60)
    assert alone.column("token_ids").to_pylist() == rig.answer(kept).column("token_ids").to_pylist()


def test_health_answers_while_it_generates(rig: Any) -> None:
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=48)
    pending = rig.generator.generate.remote(rig.requests(16, 8), sampling)
    seen = []
    while not ray.wait([pending], timeout=0)[0]:
        asked = time.monotonic()
        seen.append((rig.answer(rig.generator.health.remote()), time.monotonic() - asked))
    assert any(health.alive and health.running > 0 for health, _ in seen)
    assert np.median([seconds for _, seconds in seen]) < 2
    assert rig.answer(rig.generator.health.remote()).running == 0


def test_without_its_turn_an_engine_ends_what_runs_then_is_idle_and_keeps_what_comes(rig: Any) -> None:
    """On CPU; vLLM's sleep mode, which frees a GPU's memory as well, needs one."""
    running = rig.start(rig.requests(4, 4), max_new_tokens=24)
    rig.wait_until_running(running)
    rig.answer(rig.generator.take_turn.remote(False))
    assert ray.wait([running], timeout=30)[0], "what ran was finished first"
    waiting = rig.start(rig.requests(4, 4, seed=9))
    pid = rig.answer(rig.generator.__ray_call__.remote(lambda _: os.getpid()))
    while not rig.answer(rig.generator.health.remote()).waiting:
        time.sleep(0.01)
    before = sum(psutil.Process(pid).cpu_times()[:2])
    time.sleep(1.0)
    assert sum(psutil.Process(pid).cpu_times()[:2]) - before < 0.3, "its threads are the learner's"
    assert not ray.wait([waiting], timeout=0)[0]
    rig.answer(rig.generator.take_turn.remote(True))
    assert rig.answer(waiting).num_rows == 16
