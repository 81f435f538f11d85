"""A weight swap across two nodes, proven by outputs and logprobs, and refused whole where anything is wrong."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.experimental import get_object_locations

from residency.platform.errors import WeightUpdateError
from residency.platform.records import PolicyVersion
from residency.training.canary import canary_png
from residency.training.update_phases import IN_ENGINE, LatePhaseError

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
    assert set(echo.seconds) == set(IN_ENGINE)
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


def test_the_canary_answers_for_the_weights_that_were_sent(
    rig: Any, trainer_logprobs: Callable[..., list[float]]
) -> None:
    """A transformers forward of each folder gives the canary's logprobs; the other folder's would be far off."""
    readings = {}
    for step, label in ((30, "base"), (31, "other")):
        reading = rig.update(*rig.publish(label, step)).canary
        assert reading.version == PolicyVersion(incarnation=0, step=step)
        assert len(reading.media) == 1
        assert len(reading.token_ids) == len(reading.logprobs) >= 1
        readings[label] = reading
    for label, reading in readings.items():
        trace = {"prompt_token_ids": reading.prompt_token_ids, "token_ids": reading.token_ids}
        theirs = trainer_logprobs(rig.folders[label], trace, canary_png(), 1.0)
        assert np.abs(np.subtract(reading.logprobs, theirs)).mean() <= 1e-5
        stale = trainer_logprobs(rig.folders["other" if label == "base" else "base"], trace, canary_png(), 1.0)
        assert np.abs(np.subtract(reading.logprobs, stale)).mean() > 1e-2


def test_a_late_phase_is_named_and_the_old_weights_serve_on(rig: Any) -> None:
    before = sample(rig)
    manifest, refs = rig.publish("other", 32)
    running = rig.start(rig.requests(8, 4), max_new_tokens=60)
    rig.wait_until_running(running)
    deadlines = dict.fromkeys(IN_ENGINE, 60.0) | {"drain": 0.05}
    with pytest.raises(LatePhaseError, match="its engine in drain") as late:
        rig.answer(rig.generator.update_weights.remote(manifest, refs, deadlines=deadlines))
    assert late.value.cause.phase == "drain"  # pyright: ignore[reportAttributeAccessIssue] (Ray wraps it)
    assert rig.answer(running).num_rows == 32
    assert told(sample(rig)) == told(before), "nobody waits for it any more"


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


def resumed_logprobs(
    old: Path, new: Path, trace: dict[str, Any], num_old: int, banned: list[int]
) -> tuple[list[float], list[float]]:
    """A transformers forward of a text trace whose weights changed after ``num_old`` tokens, with the keys and values
    of the old weights kept; beside it the new weights' own, as if they had read everything themselves."""
    import torch
    from transformers import AutoModelForImageTextToText

    ids = torch.tensor([[*trace["prompt_token_ids"], *trace["token_ids"]]])
    start, swap = len(trace["prompt_token_ids"]), len(trace["prompt_token_ids"]) + num_old - 1
    places = torch.arange(ids.shape[1]).expand(3, 1, -1)
    before = AutoModelForImageTextToText.from_pretrained(old, dtype=torch.float32).eval()
    after = AutoModelForImageTextToText.from_pretrained(new, dtype=torch.float32).eval()
    with torch.no_grad():
        # the last old token's own keys and values come with the next step
        first = before(input_ids=ids[:, :swap], position_ids=places[..., :swap], use_cache=True)
        rest = after(
            input_ids=ids[:, swap:],
            position_ids=places[..., swap:],
            attention_mask=torch.ones_like(ids),
            past_key_values=first.past_key_values,
        )
        alone = after(input_ids=ids, position_ids=places)

    def chosen(logits: torch.Tensor) -> list[float]:
        logits = logits[0, start - 1 : -1].clone()
        logits[:, banned] = float("-inf")
        return torch.log_softmax(logits, -1).gather(1, ids[0, start:, None])[:, 0].tolist()

    return chosen(torch.cat([first.logits, rest.logits], 1)), chosen(alone.logits)


def test_in_flight_what_runs_goes_on_under_the_new_weights_and_each_token_knows(rig: Any) -> None:
    from residency.training.model_folder import media_token_ids

    base, base_refs = rig.publish("base", 50)
    rig.update(base, base_refs)
    other, other_refs = rig.publish("other", 51)
    # 32 sequences run at once: of the seventh group two begin at once, three wait
    running = rig.start(rig.requests(20, 5, text_only=True), max_new_tokens=60)
    rig.wait_until_running(running)
    time.sleep(0.2)  # until some have tokens
    echo = rig.update(other, other_refs, in_flight=True)
    assert not ray.wait([running], timeout=0)[0], "the update did not wait for it"
    assert echo.version == other.version
    traces = rig.answer(running).to_pylist()
    old, new = base.version.packed, other.version.packed
    kinds = Counter(tuple(sorted(set(trace["policy_versions"]))) for trace in traces)
    assert kinds[old, new] >= 4, kinds
    assert kinds[new,] >= 4, "those that waited for room began under the new weights"
    names = {old: "base", new: "other"}
    assert all(trace["model"] == names[trace["policy_versions"][-1]] for trace in traces)
    assert len({trace["id"] for trace in traces}) == len(traces)
    banned = list(media_token_ids(rig.folders["base"]))
    folders = rig.folders["base"], rig.folders["other"]
    for trace in [t for t in traces if len(set(t["policy_versions"])) == 2][:4]:
        versions, ours = trace["policy_versions"], np.array(trace["logprobs"])
        assert len(versions) == len(ours) == len(trace["token_ids"])
        num_old = versions.count(old)
        assert versions == [old] * num_old + [new] * (len(versions) - num_old), "changed once"
        theirs, alone = resumed_logprobs(*folders, trace, num_old, banned)
        assert np.abs(ours - theirs).max() <= 1e-5
        assert np.abs(ours - alone)[num_old:].max() > 1e-3, "the kept keys and values can be told from new ones"
    # sequences that had not begun when the weights changed read their prompt with the new ones: nothing stale, also
    # where others of their group had read it with the old ones
    mixed_items = {trace["item_id"] for trace in traces if old in trace["policy_versions"]}
    late = [trace for trace in traces if set(trace["policy_versions"]) == {new}]
    straddling = [trace for trace in late if trace["item_id"] in mixed_items]
    assert len(straddling) == 3
    for trace in [*straddling, late[-1]]:
        _, alone = resumed_logprobs(*folders, trace, 1, banned)
        assert np.abs(np.array(trace["logprobs"]) - alone).max() <= 1e-5


def test_an_update_may_end_what_runs(rig: Any) -> None:
    base, base_refs = rig.publish("base", 60)
    other, other_refs = rig.publish("other", 61)
    rig.update(base, base_refs)
    alone = rig.generate(rig.requests(8, 4, seed=5), max_new_tokens=40).to_pylist()
    running = rig.start(rig.requests(8, 4, seed=5), max_new_tokens=60)
    # long enough that the engine has not come to the last of them before the update, however fast the machine
    waiting = rig.start(rig.requests(24, 5, seed=6), max_new_tokens=60)
    rig.wait_until_running(running)
    time.sleep(0.2)
    rig.update(other, other_refs, abort=True)
    traces = rig.answer(running).to_pylist()
    ended = [trace for trace in traces if trace["finish_reason"] == "abort"]
    assert len(ended) >= 8
    assert any(trace["token_ids"] for trace in ended)
    for trace, whole in zip(traces, alone, strict=True):
        if trace["finish_reason"] != "abort":
            continue
        length = min(len(trace["token_ids"]), 40)
        assert trace["token_ids"][:length] == whole["token_ids"][:length]
        assert np.allclose(trace["logprobs"][:length], whole["logprobs"][:length], atol=1e-5)
        assert set(trace["policy_versions"]) <= {base.version.packed}
        assert len(trace["policy_versions"]) == len(trace["token_ids"]) < 60
    after = rig.answer(waiting).to_pylist()
    assert {version for t in after[-8:] for version in t["policy_versions"]} == {other.version.packed}
    assert rig.answer(rig.generator.health.remote()).running == 0


def test_a_refused_update_ends_nothing(rig: Any) -> None:
    manifest, refs = rig.publish("other", 65)
    buffer = rig.answer(refs[-1]).copy()
    buffer[len(buffer) // 2] ^= 1
    for how in ({"in_flight": True}, {"abort": True}):
        running = rig.start(rig.requests(8, 4), max_new_tokens=60)
        rig.wait_until_running(running)
        with pytest.raises(WeightUpdateError, match="arrived with digest"):
            rig.update(manifest, [*refs[:-1], ray.put(buffer)], **how)
        traces = rig.answer(running).to_pylist()
        assert all(trace["finish_reason"] != "abort" for trace in traces)
        assert all(manifest.version.packed not in trace["policy_versions"] for trace in traces)


@pytest.mark.parametrize("in_flight", [False, True])
def test_other_vision_weights_change_what_an_image_says(
    rig: Any, trainer_logprobs: Callable[..., list[float]], tmp_path: Path, in_flight: bool
) -> None:
    """Also where the same image was asked about just before: no cache answers for the old vision tower."""
    rig.folders["vision"] = other_vision(rig.folders["base"], tmp_path / "vision")
    said: dict[str, list[dict[str, Any]]] = {}
    background = None
    for step, label in enumerate(("base", "vision", "base"), start=70 + 10 * in_flight):
        manifest, refs = rig.publish(label, step)
        if in_flight:
            background = rig.start(rig.requests(6, 4, seed=40, text_only=True), max_new_tokens=60)
            rig.wait_until_running(background)
        rig.update(manifest, refs, in_flight=in_flight)
        traces = sample(rig)
        sample(rig)  # whatever can be cached of these weights is, when the next ones come
        if background is not None:
            rig.answer(background)
        for trace, png in zip(traces, rig.media.column("png").to_pylist(), strict=True):
            theirs = trainer_logprobs(rig.folders[label], trace, png, 1.0)
            assert np.abs(np.array(trace["logprobs"]) - theirs).max() <= 1e-5, label
        if label in said:
            assert [t["token_ids"] for t in traces] == [t["token_ids"] for t in said[label]], "and back"
            both = zip(traces, said[label], strict=True)
            assert all(np.allclose(one["logprobs"], two["logprobs"], atol=1e-5) for one, two in both)
        said.setdefault(label, traces)
    for one, two in zip(said["base"], said["vision"], strict=True):
        assert abs(one["logprobs"][0] - two["logprobs"][0]) > 1e-4 or one["token_ids"][0] != two["token_ids"][0]


def other_vision(base: Path, out: Path) -> Path:
    """The base folder with another vision tower and nothing else."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, out)
    generator = torch.Generator().manual_seed(2)
    weights = load_file(base / "model.safetensors")
    seen = [name for name in weights if "visual" in name]
    assert 0 < len(seen) < len(weights)
    for name in seen:
        weights[name] = weights[name] + 0.1 * torch.randn(weights[name].shape, generator=generator)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


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
