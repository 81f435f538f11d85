"""Each of the six layers is planted between a real sampler and a real trainer, and must be the one that is named."""

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from residency.platform.errors import RoleError
from residency.platform.records import PolicyVersion
from residency.training.losses import LossConfig
from residency.training.mismatch.cause import Layer
from residency.training.mismatch.diagnosis import Diagnosis, diagnose
from residency.training.mismatch.probes import Probes
from residency.training.mismatch.sampled_row import SampledRow
from residency.training.mismatch.step_diagnosis import diagnose_step
from residency.training.weights_echo import WeightsEcho

BUDGET = 1e-5
Make = Callable[..., Any]


@pytest.fixture(scope="session")
def clean(roll_out: Make, tiny_student_dir: Path) -> Any:
    """Rollouts without a fault."""
    return roll_out(tiny_student_dir)


def found(rows: Sequence[SampledRow], probes: Probes, budget: float = BUDGET) -> Diagnosis:
    """The diagnosis, printed; what it says must be whole, of numbers and words."""
    diagnosis = diagnose(rows, probes, budget, measured=1.0)
    print(diagnosis.error(3), *(f"\n  {cause.explained:.3f} {cause}" for cause in diagnosis.causes))
    assert json.loads(json.dumps(diagnosis.details(), allow_nan=False))["budget"] == budget
    assert str(pickle.loads(pickle.dumps(diagnosis.error(3)))) == str(diagnosis.error(3))
    return diagnosis


def named(diagnosis: Diagnosis, layer: Layer, *words: str) -> None:
    assert diagnosis.likely is not None
    assert diagnosis.layer is layer
    assert diagnosis.likely.proven
    told = str(diagnosis.error(3))
    assert "step 3: sampler's and trainer's logprobs under the same weights differ by 1.00e+00 on average" in told
    assert f"cause: {layer}: " in told
    assert diagnosis.likely.remedy in told
    for word in words:
        assert word in told


def moved(folder: Path, out: Path, scale: float, part: str = "") -> Path:
    """The folder with other weights: those whose name holds ``part`` a little away from where they were."""
    shutil.copytree(folder, out)
    random, weights = torch.Generator().manual_seed(1), load_file(folder / "model.safetensors")
    shifted = {
        name: weight + scale * torch.randn(weight.shape, generator=random) * (part in name)
        for name, weight in weights.items()
    }
    save_file(shifted, out / "model.safetensors", metadata={"format": "pt"})
    return out


def test_without_a_fault_they_agree(clean: Any, probes_of: Make, tiny_student_dir: Path) -> None:
    diagnosis = found(clean.rows(), probes_of(tiny_student_dir))
    assert diagnosis.observed <= BUDGET
    assert diagnosis.evidence.whole.num_tokens == 180
    assert diagnosis.causes == ()
    assert diagnosis.layer is None
    assert "it is the learner's own pass that is off" in str(diagnosis.error(3))


def test_without_a_fault_they_agree_under_every_rule_of_sampling(
    roll_out: Make, probes_of: Make, tiny_student_dir: Path
) -> None:
    how = {"temperature": 0.7, "top_k": 20, "top_p": 0.8}
    assert found(roll_out(tiny_student_dir, **how).rows(), probes_of(tiny_student_dir, **how)).observed <= BUDGET


@pytest.mark.parametrize(("sampler", "trainer"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_dtype(roll_out: Make, probes_of: Make, tiny_student_dir: Path, sampler: str, trainer: str) -> None:
    rows = roll_out(tiny_student_dir, dtype=sampler).rows()
    named(found(rows, probes_of(tiny_student_dir, dtype=trainer), 1e-4), Layer.DTYPE, f"model in {sampler}")


def test_a_dtype_whose_kernels_round_elsewhere_is_likely(
    roll_out: Make, probes_of: Make, tiny_student_dir: Path
) -> None:
    """As between vLLM and transformers: beside the weights' rounding each has one of its own, as large."""
    random, rows = np.random.default_rng(0), roll_out(tiny_student_dir, dtype="bfloat16").rows()
    rows = [
        replace(row, trained_logprobs=row.trained_logprobs + 3e-3 * random.standard_normal(len(row.trained_logprobs)))
        for row in rows
    ]
    diagnosis = found(rows, probes_of(tiny_student_dir))
    assert diagnosis.layer is Layer.DTYPE
    assert diagnosis.likely is not None
    assert not diagnosis.likely.proven
    assert "likely cause: dtype: with the trainer's model in bfloat16" in diagnosis.why()


@pytest.mark.parametrize(
    ("sampler", "trainer", "words"),
    [
        ({"temperature": 0.7}, {}, "those of temperature 0.7, the trainer scored with temperature 1:"),
        ({}, {"temperature": 0.7}, "those of temperature 1, the trainer scored with temperature 0.7:"),
        ({"top_k": 20}, {}, "temperature 1, top-k 20, the"),
        ({"top_p": 0.6}, {}, "temperature 1, top-p 0.6, the"),
        ({"temperature": 0.7, "top_k": 20}, {"temperature": 0.7}, "temperature 0.7, top-k 20, the"),
        ({}, {"top_k": 20}, "those of temperature 1, the trainer scored with temperature 1, top-k 20:"),
        ({}, {"temperature": 0.7, "top_p": 0.9}, "those of temperature 1, the trainer"),
    ],
)
def test_truncation(
    roll_out: Make, probes_of: Make, tiny_student_dir: Path, sampler: Any, trainer: Any, words: str
) -> None:
    rows = roll_out(tiny_student_dir, **sampler).rows()
    named(found(rows, probes_of(tiny_student_dir, **trainer)), Layer.TRUNCATION, words)


@pytest.mark.parametrize(("scale", "part"), [(0.01, ""), (1e-4, ""), (0.1, "visual")])
def test_stale_weights(
    clean: Any, probes_of: Make, tiny_student_dir: Path, tmp_path: Path, scale: float, part: str
) -> None:
    """The sampler still has the weights of a step before; also where only the vision tower's have moved."""
    newer = moved(tiny_student_dir, tmp_path / "newer", scale, part)
    oldest = moved(tiny_student_dir, tmp_path / "oldest", 0.05)
    probes = probes_of(newer, older={"rl@6": tiny_student_dir, "rl@5": oldest})
    named(found(clean.rows(), probes), Layer.STALE_WEIGHTS, "are those of the weights rl@6")


def test_stale_weights_of_some_generators(
    clean: Any, roll_out: Make, probes_of: Make, tiny_student_dir: Path, tmp_path: Path
) -> None:
    newer = moved(tiny_student_dir, tmp_path / "newer", 0.01)
    rows = [*clean.rows()[:6], *roll_out(newer).rows()[6:]]
    named(found(rows, probes_of(newer, older={"rl@6": tiny_student_dir})), Layer.STALE_WEIGHTS, "rl@6")


def test_an_echo_that_does_not_fit_points_to_stale_weights(
    clean: Any, probes_of: Make, tiny_student_dir: Path, tmp_path: Path
) -> None:
    """Where the older weights are not at hand: likely, and not called proven."""
    version = PolicyVersion.unpack(clean.rows()[0].oldest_version)
    probes = probes_of(moved(tiny_student_dir, tmp_path / "newer", 0.05))
    unlike = found(clean.rows(), probes)
    assert unlike.layer is None
    assert "unexplained" in str(unlike.error(3))
    for digests, step, words in (
        (("b",), version.step, "version 0.7 has other digests than the learner published"),
        (("a",), 6, "a generator's echo is of version 0.6, the learner trains 0.7"),
    ):
        echo = WeightsEcho(version=replace(version, step=step), label="rl", digests=digests, seconds={})
        diagnosis = found(clean.rows(), replace(probes, echoes=(echo,), digests=("a",)))
        assert diagnosis.layer is Layer.STALE_WEIGHTS
        assert diagnosis.likely is not None
        assert not diagnosis.likely.proven
        assert f"likely cause: stale weights: {words}" in diagnosis.why().replace("a generator's echo of ", "")


def test_chat_template(clean: Any, probes_of: Make, tiny_student_dir: Path, tmp_path: Path) -> None:
    """The trainer renders the prompt once more, with a template that has a system turn of its own."""
    folder = shutil.copytree(tiny_student_dir, tmp_path / "templated")
    template = folder / "chat_template.jinja"
    template.write_text("{{- '<|im_start|>system\nThink.<|im_end|>\n' -}}" + template.read_text())
    probes = probes_of(folder)
    rows = [replace(row, trained=replace(row.trained, prompt_ids=probes.render(row) or ())) for row in clean.rows()]
    assert all(row.trained.prompt_ids != row.sampled.prompt_ids for row in rows)
    named(found(rows, probes), Layer.CHAT_TEMPLATE, "16 of them those that the trainer's own template gives")


def test_an_engine_that_tells_other_prompts_than_it_ran_on(clean: Any, probes_of: Make, tiny_student_dir: Path) -> None:
    """Batch and trace agree, but what was sampled fits the prompt that the template really gives."""
    rows = []
    for row in clean.rows():
        told = replace(row.sampled, prompt_ids=row.sampled.prompt_ids[:-3] + row.sampled.prompt_ids[-1:])
        rows.append(replace(row, sampled=told, trained=told))
    named(found(rows, probes_of(tiny_student_dir)), Layer.CHAT_TEMPLATE, "fit what was sampled better")


def other_pixels(folder: Path, out: Path) -> Path:
    """The folder with another image normalization, as a checkpoint that lost its own would have."""
    shutil.copytree(folder, out)
    path = out / "processor_config.json"
    tree = json.loads(path.read_text())
    tree["image_processor"]["image_mean"] = [0.5, 0.5, 0.5]
    path.write_text(json.dumps(tree))
    return out


def test_image_processing(clean: Any, probes_of: Make, tiny_student_dir: Path, tmp_path: Path) -> None:
    folder = other_pixels(tiny_student_dir, tmp_path / "pixels")
    diagnosis = found(clean.rows(), probes_of(folder, processors={"the generators'": tiny_student_dir}))
    named(diagnosis, Layer.IMAGE_PROCESSING, 'with image processing "the generators\'"')
    assert diagnosis.evidence.without_image.mean <= BUDGET < diagnosis.evidence.with_image.mean


def test_image_processing_that_cannot_be_put_right_is_likely(
    clean: Any, probes_of: Make, tiny_student_dir: Path, tmp_path: Path
) -> None:
    diagnosis = found(clean.rows(), probes_of(other_pixels(tiny_student_dir, tmp_path / "pixels")))
    assert diagnosis.layer is Layer.IMAGE_PROCESSING
    assert diagnosis.likely is not None
    assert not diagnosis.likely.proven
    assert "rows without by" in diagnosis.why()


def test_pictures_with_swapped_channels_are_named_without_any_text_row(
    roll_out: Make, probes_of: Make, tiny_student_dir: Path
) -> None:
    rows, probes = roll_out(tiny_student_dir, only_images=True).rows(), probes_of(tiny_student_dir)

    def score(asked: Any, how: Any) -> Any:  # the trainer's own way has the fault; reversing it again puts it right
        swap = {"own": "channels reversed", "channels reversed": "own"}
        return probes.score(asked, replace(how, images=swap.get(how.images, how.images)))

    named(found(rows, replace(probes, score=score)), Layer.IMAGE_PROCESSING, "'channels reversed'")


def test_retokenization(clean: Any, probes_of: Make, tiny_student_dir: Path) -> None:
    """The batch is made from the text, with as many of the sampler's logprobs as there are ids then."""
    probes, rows = probes_of(tiny_student_dir), []
    for row in clean.rows():
        ids = probes.encode(row.text)[: len(row.sampler_logprobs)]
        again = replace(row.trained, token_ids=ids)
        rows.append(replace(row, trained=again, trained_logprobs=row.sampler_logprobs[: len(ids)]))
    assert sum(row.trained.token_ids != row.sampled.token_ids for row in rows) >= 16
    named(found(rows, probes), Layer.RETOKENIZATION, "16 of them those of their text encoded again")


def test_what_nothing_explains_is_said_to_be_unexplained(
    clean: Any, probes_of: Make, tiny_student_dir: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    rows = [
        replace(row, trained_logprobs=row.trained_logprobs + 0.05 * random.standard_normal(len(row.trained_logprobs)))
        for row in clean.rows()
    ]
    probes = probes_of(
        tiny_student_dir,
        older={"rl@6": moved(tiny_student_dir, tmp_path / "older", 0.01)},
        processors={"the generators'": other_pixels(tiny_student_dir, tmp_path / "pixels")},
    )
    diagnosis = found(rows, probes)
    assert diagnosis.layer is None
    assert "unexplained: it is neither dtype, truncation, stale weights" in str(diagnosis.error(3))


def test_rows_of_older_weights_are_left_out(clean: Any, probes_of: Make, tiny_student_dir: Path) -> None:
    rows = clean.rows()
    wrong = replace(rows[0], oldest_version=6, trained_logprobs=rows[0].trained_logprobs - 3)
    diagnosis = found([wrong, *rows[1:]], probes_of(tiny_student_dir))
    assert diagnosis.evidence.whole.num_tokens == 170
    assert diagnosis.observed <= BUDGET
    with pytest.raises(RoleError, match="none of 1 rows is wholly of the learner's weights"):
        diagnose([wrong], probes_of(tiny_student_dir), BUDGET, 1.0)


def test_a_step_from_its_tables_and_folders(
    clean: Any, media: pa.Table, tiny_student_dir: Path, tmp_path: Path
) -> None:
    version = PolicyVersion.unpack(clean.rows()[0].oldest_version)
    diagnosis = diagnose_step(
        clean.traces, clean.batch, media, folder=moved(tiny_student_dir, tmp_path / "newer", 0.01), version=version,
        loss=LossConfig(kind="dapo"), dtype="float32", measured=0.25, budget=BUDGET, prompts=clean.prompts,
        older={"rl@6": tiny_student_dir}, generators_folder=tiny_student_dir,
    )  # fmt: skip
    assert diagnosis.layer is Layer.STALE_WEIGHTS
    assert "rl@6" in diagnosis.why()
    assert diagnosis.measured == 0.25
