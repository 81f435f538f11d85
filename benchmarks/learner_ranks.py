"""Two learner ranks against one: the same SFT, step by step, under each ZeRO stage. Tiny Qwen2.5-VL, fp32.

Rows are of uneven length, two in five have no picture, and their number (21) and that of the micro-batches are odd; the
gradient of a step is the sum of two calls, the second of a single row, so that one rank then has none. Compared are the
loss and the gradient norm of every step, and all weights at the end (the norm of the difference by the weights' norm:
where a gradient is zero but for rounding, as for key biases, Adam makes a full step of it, and no single tensor tells).
The goal holds for the largest relative difference of all.

    python benchmarks/learner_ranks.py [--steps 20]
"""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from reporting import report

GOAL = 1e-4
DEADLINE_SECONDS = 600.0
QUESTION = "which side is the lesion on?"
THOUGHTS = (
    "the edge is sharp.",
    "the cells around it are pale and small.",
    "the shape is round, and nothing else is seen.",
)
Run = tuple[list[float], list[float], np.ndarray]  # losses, gradient norms, all weights


def build_work(folder: Path) -> tuple[pa.Table, pa.Table]:
    """The student in ``folder``; its training batch and pictures."""
    from PIL import Image

    from residency.platform.arrow_tables import to_table
    from residency.platform.media_store import encode_png, media_hash, media_table
    from residency.platform.records import Example, Family, Target
    from residency.training.checkpoints import load_processor
    from residency.training.encoding import encode_examples
    from residency.training.student import build_student

    sides = ("left", "right")
    answers = [
        f"<think>{' '.join(THOUGHTS[: row % 4])}</think><answer>{sides[row // 2 % 2]}</answer>" for row in range(21)
    ]
    build_student(folder / "student", (QUESTION, *answers), seed=0)
    pixels = np.random.default_rng(0).integers(0, 255, (21, 84, 84, 3), dtype=np.uint8)
    pngs = [encode_png(Image.fromarray(image)) for image in pixels]
    examples = [
        Example(
            id=str(row),
            item_id=str(row),
            messages=({"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}),
            media=() if row % 5 in (1, 3) else (media_hash(pngs[row]),),
            target=Target.COT,
            family=Family.MEDICAL_MULTIMODAL,
        )
        for row, answer in enumerate(answers)
    ]
    media = media_table(pngs)
    return encode_examples(to_table(examples, Example), load_processor(folder / "student"), media), media


async def train(folder: Path, batch_ref: Any, media_ref: Any, ranks: int, zero_stage: Any, steps: int) -> Run:
    """A group's run over the steps."""
    from residency.actors.learner_group import LearnerGroup
    from residency.platform.profiles import LearnerConfig
    from residency.platform.recipe import OptimizerConfig
    from residency.training.folder_tensors import folder_tensors
    from residency.training.losses import LossConfig

    learner = LearnerConfig(actors=ranks, cpus=0.5, zero_stage=zero_stage, micro_batch_tokens=200)
    optimizer = OptimizerConfig(learning_rate=1e-3, vision_learning_rate=5e-4, warmup_ratio=0.1)
    group = await LearnerGroup.start(
        folder / "student", learner, "float32", optimizer, steps, media_ref, 0, DEADLINE_SECONDS
    )
    losses, norms, sft = [], [], LossConfig(kind="sft")
    try:
        for _ in range(steps):
            parts = [await group.forward_backward(batch_ref, rows, sft) for rows in (list(range(20)), [20])]
            losses.append(sum(part.loss for part in parts))
            norms.append((await group.optim_step()).gradient_norm)
        saved = await group.save_checkpoint(folder / f"{ranks}-{zero_stage}")
    finally:
        await group.close()
    weights = np.concatenate([tensor.numpy().ravel() for _, tensor in sorted(folder_tensors(saved))])
    return losses, norms, weights


def differences(one: Run, two: Run) -> dict[str, float]:
    """Largest relative difference of losses and norms, and the relative difference of all weights."""
    (losses, norms, weights), (other_losses, other_norms, other_weights) = one, two
    return {
        "loss": max(abs(b / a - 1) for a, b in zip(losses, other_losses, strict=True)),
        "gradient_norm": max(abs(b / a - 1) for a, b in zip(norms, other_norms, strict=True)),
        "weights": float(np.linalg.norm(other_weights - weights) / np.linalg.norm(weights)),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=20)
    steps = arguments.parse_args().steps
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    with tempfile.TemporaryDirectory(prefix="lr", ignore_cleanup_errors=True) as home:
        folder = Path(home)
        batch, media = build_work(folder)
        ray.init(
            num_cpus=2,
            object_store_memory=150 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=str(folder / "r"),
        )
        refs = ray.put(batch), ray.put(media)
        one = asyncio.run(train(folder, *refs, 1, 2, steps))
        found: dict[str, dict[str, float]] = {}
        for zero_stage in (1, 2, 3):
            found[f"zero{zero_stage}"] = differences(one, asyncio.run(train(folder, *refs, 2, zero_stage, steps)))
            print(f"ZeRO-{zero_stage}, 2 ranks against 1: {found[f'zero{zero_stage}']}", file=sys.stderr)
        ray.shutdown()
    hardest = max(value for row in found.values() for value in row.values())
    losses = {"first_loss": one[0][0], "last_loss": one[0][-1]}
    details = {"steps": steps, "two_ranks_against_one": found, **losses}
    report("learner_ranks", hardest, "largest relative difference", GOAL, hardest <= GOAL, details)


if __name__ == "__main__":
    main()
