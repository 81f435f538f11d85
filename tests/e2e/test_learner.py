"""Learner groups on real DeepSpeed, against the same training in plain PyTorch."""

import asyncio
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from residency.actors.learner_group import LearnerGroup
from residency.actors.publisher import start_publisher
from residency.platform.arrow_tables import to_table
from residency.platform.errors import DataError, RoleError
from residency.platform.profiles import LearnerConfig
from residency.platform.recipe import OptimizerConfig
from residency.platform.records import Example, Family, PolicyVersion, Target
from residency.training.checkpoints import load_model, load_processor
from residency.training.encoding import encode_examples
from residency.training.folder_tensors import folder_tensors
from residency.training.losses import LossConfig
from residency.training.micro_batches import plan_micro_batches
from residency.training.model_folder import media_token_ids
from residency.training.training_batch import BatchReader
from residency.training.weight_buckets import unpack_bucket

DEADLINE_SECONDS = 240.0
TOTAL_STEPS = 20
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, vision_learning_rate=5e-4, warmup_ratio=0.1)
SFT = LossConfig(kind="sft")


def pictures(num_pictures: int) -> pa.Table:
    generator = np.random.default_rng(0)
    pngs: list[bytes] = []
    for _ in range(num_pictures):
        buffer = io.BytesIO()
        Image.fromarray(generator.integers(0, 255, (84, 84, 3), dtype=np.uint8)).save(buffer, "PNG")
        pngs.append(buffer.getvalue())
    return pa.table({"hash": [hashlib.sha256(png).hexdigest() for png in pngs], "png": pngs})


def examples(rows: Sequence[tuple[str | None, str]]) -> pa.Table:
    """(image or None, side) of each row."""
    return to_table(
        [
            Example(
                id=str(row),
                item_id=str(row),
                messages=(
                    {"role": "user", "content": "which side is the lesion on?" if image else "is a cell there?"},
                    {
                        "role": "assistant",
                        "content": f"<think>the cell is on the {side}.</think><answer>{side}</answer>",
                    },
                ),
                media=(image,) if image else (),
                target=Target.COT,
                family=Family.MEDICAL_MULTIMODAL,
            )
            for row, (image, side) in enumerate(rows)
        ],
        Example,
    )


class PlainTrainer:
    """The reference: one process, one row at a time, torch's own AdamW, transformers' own forward."""

    def __init__(self, model_dir: Path, media: pa.Table) -> None:
        self.model = load_model(model_dir, "float32").train()
        self.processor = load_processor(model_dir)
        self.banned = list(media_token_ids(model_dir))
        self.images = {row["hash"]: Image.open(io.BytesIO(row["png"])) for row in media.to_pylist()}
        tower = [value for name, value in self.model.named_parameters() if "visual" in name and "merger" not in name]
        inside = {id(value) for value in tower}
        rest = [value for value in self.model.parameters() if id(value) not in inside]
        self.optimizer = torch.optim.AdamW(
            [{"params": rest, "lr": 1e-3}, {"params": tower, "lr": 5e-4}], betas=OPTIMIZER.betas, weight_decay=0.0
        )
        self.peaks = [1e-3, 5e-4]
        self.step = 0

    def row_logprobs(self, batch: pa.Table, row: int) -> torch.Tensor:
        one = BatchReader(batch).row(row)
        ids = torch.tensor(one.tokens[None].astype(np.int64))
        images = [self.images[name].convert("RGB") for name in one.media]
        inputs = self.processor.image_processor(images=images, return_tensors="pt") if images else {}
        types = (ids == self.processor.image_token_id).int()
        logits = self.model(input_ids=ids, mm_token_type_ids=types, **inputs).logits[0]
        logits[:, self.banned] = float("-inf")
        chosen = torch.log_softmax(logits[one.prompt_length - 1 : -1], -1)
        return chosen.gather(1, ids[0, one.prompt_length :, None])[:, 0]

    def train_step(self, batch: pa.Table) -> tuple[float, float]:
        """(loss, gradient norm) of one step on the whole batch."""
        logprobs = torch.cat([self.row_logprobs(batch, row) for row in range(batch.num_rows)])
        loss = -logprobs.mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        warm = [0.5, 1.0]  # a tenth of twenty steps
        cosine = 0.5 * (1 + math.cos(math.pi * (self.step - 2) / 18))
        factor = warm[self.step] if self.step < 2 else cosine
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimizer.step()
        self.step += 1
        return float(loss.detach()), float(norm)


def as_rollouts(batch: pa.Table, sampled: Sequence[torch.Tensor], advantages: Sequence[float]) -> pa.Table:
    """The batch as RL has it: a sampler's logprobs and an advantage for each row, every token of weight 1."""
    columns: dict[str, list[Any]] = {
        "sampler_logprobs": [part.tolist() for part in sampled],
        "advantage": list(advantages),
        "loss_weights": [[1.0] * len(part) for part in sampled],
    }
    for name, values in columns.items():
        field = batch.schema.field(name)
        batch = batch.set_column(batch.schema.get_field_index(name), field, pa.array(values, field.type))
    return batch


def start(model_dir: Path, media_ref: Any, zero_stage: Literal[1, 2, 3], micro_batch_tokens: int) -> Any:
    learner = LearnerConfig(actors=2, cpus=0.25, zero_stage=zero_stage, micro_batch_tokens=micro_batch_tokens)
    return LearnerGroup.start(
        model_dir, learner, "float32", OPTIMIZER, TOTAL_STEPS, media_ref, seed=0, deadline_seconds=DEADLINE_SECONDS
    )


@pytest.mark.usefixtures("ray_cluster")
def test_zero3_with_a_rank_that_has_text_only(tiny_student_dir: Path) -> None:
    import ray

    media = pictures(2)
    names = media.column("hash").to_pylist()
    processor = load_processor(tiny_student_dir)
    table = examples([(names[0], "left"), (None, "right"), (names[1], "right"), (None, "left")])
    batch = encode_examples(table, processor, media)
    reader = BatchReader(batch)
    limit = 2 * int(reader.lengths.max())
    plan = plan_micro_batches(reader.lengths.tolist(), 2, limit)
    with_pictures = [{bool(reader.row(row).media) for rows in rounds for row in rows} for rounds in plan]
    assert with_pictures == [{True}, {False}], "the second rank has text only"

    async def scenario() -> None:
        group = await start(tiny_student_dir, ray.put(media), zero_stage=3, micro_batch_tokens=limit)
        try:
            reference, batch_ref = PlainTrainer(tiny_student_dir, media), ray.put(batch)
            for _ in range(4):
                stats = await group.forward_backward(batch_ref, None, SFT)
                step = await group.optim_step()
                loss, norm = reference.train_step(batch)
                assert stats.loss == pytest.approx(loss, rel=1e-4)
                assert step.gradient_norm == pytest.approx(norm, rel=1e-3)
                assert stats.num_rows == 4
            # KL against the frozen first weights, sharded as well; the reference is let go with the next checkpoint.
            frozen = PlainTrainer(tiny_student_dir, media)
            with torch.no_grad():
                now = [reference.row_logprobs(batch, row) for row in range(4)]
                first_logprobs = [frozen.row_logprobs(batch, row) for row in range(4)]
            rollouts_ref = ray.put(as_rollouts(batch, now, [1.0, -1.0, 0.5, -0.5]))
            await group.hold_reference(tiny_student_dir)
            loss = LossConfig(kind="grpo", kl_estimator="k3", kl_coefficient=0.1)
            stats = await group.forward_backward(rollouts_ref, None, loss)
            drift_T = torch.cat(first_logprobs) - torch.cat(now)
            assert stats.kl == pytest.approx(float((drift_T.exp() - 1 - drift_T).mean()), rel=1e-3)
            assert stats.kl > 1e-3, "four steps away"
            k1 = {str(row): float((now[row] - first_logprobs[row]).sum()) for row in range(4)}
            assert await group.reference_kl(rollouts_ref, 1.0) == pytest.approx(k1, rel=1e-3, abs=1e-3)
            # Some rows only, and fewer than there are ranks; several calls before a step add up.
            first = await group.forward_backward(batch_ref, [0, 1], SFT)
            second = await group.forward_backward(batch_ref, [2], SFT)
            assert (first.num_rows, second.num_rows) == (2, 1)
            await group.optim_step()
            assert await group.policy_version() == PolicyVersion(incarnation=0, step=5)
            # One rank fails (its picture is nowhere) while the other waits for it: named at once, not at the deadline.
            column = batch.schema.get_field_index("media")
            lost = pa.array([["f" * 64], [], ["f" * 64], []], pa.list_(pa.string()))
            with pytest.raises(DataError, match="image ffffffffffff"):
                await group.forward_backward(ray.put(batch.set_column(column, "media", lost)), None, SFT)
        finally:
            await group.close()

    asyncio.run(asyncio.wait_for(scenario(), DEADLINE_SECONDS))


@pytest.mark.usefixtures("ray_cluster")
def test_zero2_trains_publishes_saves_and_goes_back(tiny_student_dir: Path, tmp_path: Path) -> None:
    import ray

    media = pictures(4)
    names = media.column("hash").to_pylist()
    rows = [(names[row % 4], ("left", "right")[row % 4 // 2]) for row in range(16)]
    batch = encode_examples(examples(rows), load_processor(tiny_student_dir), media)
    probe = PlainTrainer(tiny_student_dir, media)
    with torch.no_grad():
        sampled = [probe.row_logprobs(batch, row) for row in range(batch.num_rows)]
    advantages = [(1.0, -0.5, 0.25, -1.0, 0.5)[row % 5] for row in range(batch.num_rows)]
    rollouts = as_rollouts(batch, sampled, advantages)
    tokens = [len(part) for part in sampled]

    def gradient_norm(shares: Sequence[float]) -> float:
        """Of −Σ share · advantage · Σ logprob over the rows: every algorithm's gradient at ratio 1."""
        probe.optimizer.zero_grad()
        for row, (share, advantage) in enumerate(zip(shares, advantages, strict=True)):
            (-share * advantage * probe.row_logprobs(batch, row).sum()).backward()
        return float(torch.nn.utils.clip_grad_norm_(probe.model.parameters(), 1.0))

    async def scenario() -> None:
        group = await start(tiny_student_dir, ray.put(media), zero_stage=2, micro_batch_tokens=600)
        publisher = start_publisher()
        try:
            batch_ref, losses = ray.put(batch), []
            dapo = await group.forward_backward(ray.put(rollouts), None, LossConfig(kind="dapo"))
            # At ratio 1 each token's loss is minus its advantage; and the reference sampled as the trainer scores.
            wanted = -sum(a * n for a, n in zip(advantages, tokens, strict=True)) / sum(tokens)
            assert dapo.loss == pytest.approx(wanted, abs=1e-5)
            assert dapo.num_tokens == sum(tokens)
            assert dapo.mismatch < 1e-5
            assert dapo.mismatch_max < 1e-4
            assert dapo.ratio == pytest.approx(1.0, abs=1e-5)
            assert await group.load_checkpoint(tiny_student_dir) == PolicyVersion(incarnation=1, step=0)
            for _ in range(TOTAL_STEPS):
                stats = await group.forward_backward(batch_ref, None, SFT)
                await group.optim_step()
                losses.append(stats.loss)
            assert losses[0] == pytest.approx(-float(torch.cat(sampled).mean()), rel=1e-4), (
                "the gradient before is gone"
            )
            assert losses[-1] < 0.5 * losses[0]

            manifest, refs = await group.publish_weights(publisher, "sft")
            assert manifest.version == PolicyVersion(incarnation=1, step=TOTAL_STEPS)
            published = [
                tensor
                for spec, ref in zip(manifest.buckets, refs, strict=True)
                for tensor in unpack_bucket(spec, ray.get(ref, timeout=60), "test")
            ]
            saved = await group.save_checkpoint(tmp_path / "sft", {"position": 20})
            on_disk = dict(folder_tensors(saved))
            assert set(dict(published)) == set(on_disk) == set(dict(folder_tensors(tiny_student_dir)))
            assert all(torch.equal(tensor, on_disk[name]) for name, tensor in published), "bitwise"
            assert [path.name for path in tmp_path.iterdir()] == ["sft"]
            assert any((saved / "state").iterdir())

            # A plain transformers model of that folder scores the batch as the live learner does.
            live = await group.forward_backward(batch_ref, None, SFT)
            loaded = PlainTrainer(saved, media)
            with torch.no_grad():
                scores = torch.cat([loaded.row_logprobs(batch, row) for row in range(batch.num_rows)])
            assert live.loss == pytest.approx(-float(scores.mean()), rel=1e-4)

            optimizer = OptimizerConfig(learning_rate=1e-4, warmup_ratio=0.0, schedule="constant")
            assert await group.load_checkpoint(tiny_student_dir, optimizer, 5) == PolicyVersion(incarnation=2, step=0)
            again = await group.forward_backward(batch_ref, None, SFT)
            assert again.loss == losses[0], "the first weights, bit for bit"
            assert (await group.optim_step()).learning_rate == 1e-4
            await group.load_checkpoint(saved)
            assert (await group.forward_backward(batch_ref, None, SFT)).loss == live.loss

            # One step by each algorithm from the same weights, the user's own way of naming one among them.
            rollouts_ref, num_rows, longest = ray.put(rollouts), batch.num_rows, 40
            shares = {
                "dapo": [1 / sum(tokens)] * num_rows,
                "grpo": [1 / (num_rows * length) for length in tokens],
                "dr_grpo": [1 / (num_rows * longest)] * num_rows,
                "rloo": [1 / num_rows] * num_rows,
                "residency.training.algorithms.rloo:Rloo": [1 / num_rows] * num_rows,
            }
            for kind, parts in shares.items():
                await group.load_checkpoint(tiny_student_dir)
                await group.hold_reference(tiny_student_dir)
                loss = LossConfig(kind=kind, max_tokens=longest, kl_estimator="k3", kl_coefficient=0.1)
                assert (await group.forward_backward(rollouts_ref, None, loss)).kl == pytest.approx(0.0, abs=1e-9)
                assert (await group.optim_step()).gradient_norm == pytest.approx(gradient_norm(parts), rel=1e-3)
            await group.load_checkpoint(tiny_student_dir)
            with pytest.raises(RoleError, match="holds no reference model"):
                await group.reference_kl(rollouts_ref, 1.0)
        finally:
            await group.close()
            ray.kill(publisher)

    asyncio.run(asyncio.wait_for(scenario(), DEADLINE_SECONDS))
