"""The generator on its own node: rows in, traces out, with the tokens and logprobs that training takes as they are."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray
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


@pytest.mark.parametrize(("temperature", "text_only"), [(1.0, False), (0.7, False), (1.0, True)])
def test_logprobs_are_those_of_a_transformers_forward(
    rig: Any, trainer_logprobs: Callable[..., list[float]], temperature: float, text_only: bool
) -> None:
    traces = rig.generate(rig.requests(4, 1, text_only=text_only), temperature=temperature).to_pylist()
    pngs = [None] * 4 if text_only else rig.media.column("png").to_pylist()
    differences = [
        abs(ours - theirs)
        for trace, png in zip(traces, pngs, strict=True)
        for ours, theirs in zip(
            trace["logprobs"], trainer_logprobs(rig.folders["base"], trace, png, temperature), strict=True
        )
    ]
    assert len(differences) >= 20
    assert np.mean(differences) <= 1e-5


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
    endless = requests.set_column(1, "prompt", [["how many cells are there? " * 40] * 2])
    with pytest.raises(Exception, match="refused the request of item item0"):
        rig.generate(endless)
    with pytest.raises(Exception, match=r"temperature must be in \[0, 2\]"):
        rig.generate(requests, temperature=5.0)
    assert rig.generate(requests).num_rows == 2


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
