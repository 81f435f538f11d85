"""A batch of uneven rows with and without pictures, and learner groups that train on it. Starts are dear."""

import asyncio
import hashlib
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

DEADLINE_SECONDS = 240.0
TOTAL_STEPS = 20
Steps = list[tuple[float, float]]


@dataclass
class Bench:
    """What these tests train on. ``rows``: an odd number, of six lengths, two in five without a picture."""

    folder: Path
    media: pa.Table
    rows: pa.Table
    media_ref: Any
    rows_ref: Any

    async def start(
        self,
        folder: Path,
        ranks: int,
        zero_stage: int,
        *,
        vision_rate: float | None = 5e-4,
        dtype: Any = "float32",
        activation_checkpointing: bool = False,
        **more: Any,
    ) -> Any:
        from residency.actors.learner_group import LearnerGroup
        from residency.platform.profiles import LearnerConfig
        from residency.platform.recipe import OptimizerConfig

        learner: dict[str, Any] = {"actors": ranks, "zero_stage": zero_stage}
        learner |= {"micro_batch_tokens": 200, "activation_checkpointing": activation_checkpointing}
        return await LearnerGroup.start(
            folder,
            LearnerConfig(cpus=0.25, **learner),
            dtype,
            OptimizerConfig(learning_rate=1e-3, vision_learning_rate=vision_rate, warmup_ratio=0.1),
            TOTAL_STEPS,
            self.media_ref,
            seed=0,
            deadline_seconds=DEADLINE_SECONDS,
            **more,
        )

    async def steps(self, group: Any, number: int) -> Steps:
        """(loss, gradient norm) of each; every step's gradient is the sum of two calls, the second of a single row."""
        from residency.training.losses import LossConfig

        sft, last, taken = LossConfig(kind="sft"), self.rows.num_rows - 1, []
        for _ in range(number):
            first = await group.forward_backward(self.rows_ref, list(range(last)), sft)
            second = await group.forward_backward(self.rows_ref, [last], sft)
            step = await group.optim_step()
            taken.append((first.loss + second.loss, step.gradient_norm))
        return taken

    @staticmethod
    def run(scenario: Callable[[], Awaitable[None]]) -> None:
        asyncio.run(asyncio.wait_for(scenario(), DEADLINE_SECONDS))

    @staticmethod
    def encode(folder: Path, media: pa.Table, num_rows: int, with_pictures: bool) -> pa.Table:
        return encode(folder, media, num_rows, with_pictures)

    @staticmethod
    def difference(one: Steps, other: Steps) -> float:
        """The largest relative difference of losses and norms."""
        assert len(one) == len(other)
        return max(
            abs(a / b - 1) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
        )


def encode(folder: Path, media: pa.Table, num_rows: int, with_pictures: bool) -> pa.Table:
    from residency.platform.arrow_tables import to_table
    from residency.platform.records import Example, Family, Target
    from residency.training.checkpoints import load_processor
    from residency.training.encoding import encode_examples

    hashes = media.column("hash").to_pylist()
    examples = []
    for row in range(num_rows):
        side, seen = ("left", "right")[row % 2], with_pictures and row % 5 not in (1, 3)
        messages = (
            {"role": "user", "content": "which side is the lesion on?" if seen else "is a cell there?" * (1 + row % 3)},
            {
                "role": "assistant",
                "content": "<think>the cell is round.</think>" * (row % 3) + f"<answer>{side}</answer>",
            },
        )
        media_of_row = (hashes[row % len(hashes)],) if seen else ()
        examples.append(
            Example(
                id=str(row),
                item_id=str(row),
                messages=messages,
                media=media_of_row,
                target=Target.COT,
                family=Family.MEDICAL_MULTIMODAL,
            )
        )
    return encode_examples(to_table(examples, Example), load_processor(folder), media)


@pytest.fixture(scope="session")
def bench(ray_cluster: Any, tiny_student_dir: Path) -> Bench:
    import ray

    generator, pngs = np.random.default_rng(0), []
    for _ in range(3):
        buffer = io.BytesIO()
        Image.fromarray(generator.integers(0, 255, (84, 84, 3), dtype=np.uint8)).save(buffer, "PNG")
        pngs.append(buffer.getvalue())
    media = pa.table({"hash": [hashlib.sha256(png).hexdigest() for png in pngs], "png": pngs})
    rows = encode(tiny_student_dir, media, 11, with_pictures=True)
    return Bench(tiny_student_dir, media, rows, ray.put(media), ray.put(rows))
