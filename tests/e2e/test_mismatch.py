"""The meter between a real vLLM sampler and the trainer's own forward: without a fault, and with planted ones."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from residency.training.mismatch.cause import Layer
from residency.training.mismatch.diagnosis import Diagnosis, diagnose
from residency.training.mismatch.meter import budget
from residency.training.mismatch.plain_scorer import PlainScorer
from residency.training.mismatch.probes import Probes, Scoring
from residency.training.mismatch.sampled_row import SampledRow, sampled_rows
from residency.training.rollout_encoding import encode_rollouts

BUDGET = budget(None, "float32")
GENERATORS = "the generators'"
PROMPTS, SAMPLES = 6, 2


def sampled(rig: Any, **sampling: Any) -> list[SampledRow]:
    """Rollouts of prompts with an image and of prompts without, as rows of a training batch with their traces."""
    seen, unseen = rig.requests(PROMPTS, SAMPLES, seed=31), rig.requests(PROMPTS, SAMPLES, seed=32, text_only=True)
    unseen = unseen.set_column(0, unseen.schema.field(0), pa.array([f"text{row}" for row in range(PROMPTS)]))
    requests = pa.concat_tables([seen, unseen])
    traces = rig.generate(requests, **sampling)
    asked = requests.to_pylist()
    batch = encode_rollouts(
        traces, dict.fromkeys(traces.column("id").to_pylist(), 1.0), {row["item_id"]: row["media"] for row in asked}
    )
    return sampled_rows(traces, batch, {row["item_id"]: row["prompt"] for row in asked})


def diagnosis_of(
    rig: Any,
    rows: list[SampledRow],
    folder: Path,
    older: Mapping[str, Path] | None = None,
    probed: Callable[[Probes], Probes] = lambda probes: probes,
    **trained: Any,
) -> Diagnosis:
    """What a trainer with this folder's weights finds."""
    scorer = PlainScorer({"own": folder, **(older or {})}, "own", rig.media, {GENERATORS: rig.folders["base"]})
    probes = scorer.probes(replace(Scoring(weights="own"), **trained), rows[0].newest_version)
    found = diagnose(rows, probed(probes), BUDGET, measured=1.0)
    print(found.error(1), *(f"\n  {cause}" for cause in found.causes))
    return found


def proven(found: Diagnosis, layer: Layer, words: str) -> None:
    assert found.likely is not None
    assert (found.layer, found.likely.proven) == (layer, True)
    assert words in str(found.error(1))


@pytest.fixture(scope="module")
def base_rows(rig: Any) -> list[SampledRow]:
    rig.update(*rig.publish("base", 200))
    return sampled(rig)


def test_without_a_fault_they_agree(rig: Any, base_rows: list[SampledRow]) -> None:
    found = diagnosis_of(rig, base_rows, rig.folders["base"])
    whole = found.evidence.whole
    print(f"{whole.num_tokens} tokens: mean {whole.mean:.2e}, at most {whole.largest:.2e}")
    assert found.evidence.with_image.num_tokens >= 60
    assert found.evidence.without_image.num_tokens >= 60
    assert whole.mean <= BUDGET
    assert found.causes == ()


@pytest.mark.parametrize(
    ("sampler", "trainer", "words"),
    [
        ({"temperature": 0.7}, {}, "those of temperature 0.7, the trainer scored with temperature 1:"),
        ({"top_k": 12}, {}, "those of temperature 1, top-k 12, the trainer"),
        ({"top_p": 0.6}, {"top_p": 1.0}, "those of temperature 1, top-p 0.6, the trainer"),
    ],
)
def test_truncation_on_the_samplers_side_alone_is_named(
    rig: Any, base_rows: list[SampledRow], sampler: Any, trainer: Any, words: str
) -> None:
    proven(diagnosis_of(rig, sampled(rig, **sampler), rig.folders["base"], **trainer), Layer.TRUNCATION, words)
    assert diagnosis_of(rig, sampled(rig, **sampler), rig.folders["base"], **sampler).evidence.whole.mean <= BUDGET


def test_stale_weights_are_named(rig: Any, base_rows: list[SampledRow]) -> None:
    """The learner has moved on to other weights, but what was published under their version are the old ones."""
    manifest, refs = rig.publish("base", 201)
    echo = rig.update(manifest, refs)
    real, _ = rig.publish("other", 202)

    def with_echo(probes: Probes) -> Probes:
        return replace(probes, echoes=(echo,), digests=tuple(bucket.digest for bucket in real.buckets))

    rows = sampled(rig)
    assert {row.oldest_version for row in rows} == {manifest.version.packed}
    older = {"rl@200": rig.folders["base"]}
    found = diagnosis_of(rig, rows, rig.folders["other"], older, with_echo)
    proven(found, Layer.STALE_WEIGHTS, "are those of the weights rl@200")
    assert "has other digests than the learner published" in found.why()


def test_other_image_processing_is_named(rig: Any, base_rows: list[SampledRow], tmp_path: Path) -> None:
    folder = shutil.copytree(rig.folders["base"], tmp_path / "pixels")
    path = folder / "processor_config.json"
    tree = json.loads(path.read_text())
    tree["image_processor"]["image_std"] = [0.5, 0.5, 0.5]
    path.write_text(json.dumps(tree))
    found = diagnosis_of(rig, base_rows, folder)
    proven(found, Layer.IMAGE_PROCESSING, GENERATORS)
    assert found.evidence.without_image.mean <= BUDGET < found.evidence.with_image.mean
