"""Samples a second of SFT on one learner rank, against Hugging Face's Trainer on the same rows.

Both train the same tiny Qwen2.5-VL in fp32 with AdamW at the same constant rate and clipping, on the same batches in
the same order, with the same number of threads, each in a process of its own; their rounds alternate.

- ours: ``LearnerGroup.train_steps`` with one rank, as a run has it, and the batch table in the object store. The rank
  collates each batch and takes pixel values from its cache, which the warm-up has filled.
- trainer: ``transformers.Trainer`` with rows that are tokenized beforehand and hold their pixel values ready; its
  collator only pads and concatenates. Its own start and end are outside the rounds. Dataloader in the same process.

The details also hold the share of padding with and without length-grouped batches, on lengths drawn from a log-normal
distribution (median 90 tokens, σ 0.8, clipped to 8–2,048): a whole batch padded together, and as the learner packs it.

    python benchmarks/sft.py [--rows 256] [--batch 16] [--steps 16] [--rounds 5] [--threads 1]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
from side_processes import Sides

GOAL_RATIO = 0.9
SIDES = ("ours", "trainer")
LEARNING_RATE = 3e-4
DEADLINE_SECONDS = 600.0
QUESTION = "which side is the lesion on?"
SENTENCES = (
    "the lesion is on the left of the picture.",
    "its edge is sharp and its shape is round.",
    "the cells around it are pale and small.",
    "nothing else is seen.",
)
Report = Callable[[float, float], None]  # (seconds of the round, loss of its last step)


def build_work(folder: Path, num_rows: int) -> None:
    """The student, its pictures and the training batch, as files that both sides read. A token weighs 1."""
    from PIL import Image

    from residency.platform.arrow_tables import to_table
    from residency.platform.media_store import encode_png, media_hash, media_table
    from residency.platform.records import Example, Family, Target
    from residency.training.checkpoints import load_processor
    from residency.training.encoding import encode_examples
    from residency.training.student import build_student

    answers = [
        f"<think>{' '.join(SENTENCES[: 1 + row % 4])}</think><answer>{('left', 'right')[row % 2]}</answer>"
        for row in range(num_rows)
    ]
    build_student(folder / "student", (QUESTION, *answers[:8]), seed=0)
    pixels = np.random.default_rng(0).integers(0, 255, (num_rows, 84, 84, 3), dtype=np.uint8)
    pngs = [encode_png(Image.fromarray(image)) for image in pixels]
    media = media_table(pngs)
    examples = [
        Example(
            id=str(row),
            item_id=str(row),
            messages=({"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}),
            media=(media_hash(pngs[row]),),
            target=Target.COT,
            family=Family.MEDICAL_MULTIMODAL,
        )
        for row, answer in enumerate(answers)
    ]
    batch = encode_examples(to_table(examples, Example), load_processor(folder / "student"), media)
    weights = [[1.0] * len(row) for row in batch.column("loss_weights").to_pylist()]
    place, field = batch.schema.get_field_index("loss_weights"), batch.schema.field("loss_weights")
    batch = batch.set_column(place, field, pa.array(weights, field.type))
    feather.write_feather(media, str(folder / "media.arrow"))
    feather.write_feather(batch, str(folder / "batch.arrow"))


def planned_rows(num_rows: int, options: argparse.Namespace) -> list[list[int]]:
    """Rows of each step over the warm-up and all rounds."""
    from residency.training.sft_batches import batches

    return list(islice(batches(num_rows, options.batch, seed=0), options.steps * (options.rounds + 1)))


def run_ours(folder: Path, options: argparse.Namespace, wait: Callable[[], None], tell: Report) -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import asyncio

    import ray

    from residency.actors.learner_group import LearnerGroup
    from residency.platform.profiles import LearnerConfig
    from residency.platform.recipe import OptimizerConfig
    from residency.training.losses import LossConfig

    store = 150 * 2**20
    ray.init(
        num_cpus=2, object_store_memory=store, include_dashboard=False, log_to_driver=False, _temp_dir=str(folder / "r")
    )
    batch: pa.Table = feather.read_table(str(folder / "batch.arrow"))
    batch_ref, media_ref = ray.put(batch), ray.put(feather.read_table(str(folder / "media.arrow")))
    rows, loss = planned_rows(batch.num_rows, options), LossConfig(kind="sft")
    optimizer = OptimizerConfig(
        learning_rate=LEARNING_RATE, betas=(0.9, 0.999), warmup_ratio=0.0, schedule="constant", gradient_clip=1.0
    )
    learner = LearnerConfig(actors=1, threads=options.threads)

    async def train() -> None:
        group = await LearnerGroup.start(
            folder / "student", learner, "float32", optimizer, len(rows), media_ref, 0, DEADLINE_SECONDS
        )
        try:
            for start in range(0, len(rows), options.steps):
                wait()
                began, last = time.perf_counter(), 0.0
                async for trained, _ in group.train_steps(batch_ref, rows[start : start + options.steps], loss):
                    last = trained.loss
                tell(time.perf_counter() - began, last)
        finally:
            await group.close()

    asyncio.run(train())
    ray.shutdown()


def run_trainer(folder: Path, options: argparse.Namespace, wait: Callable[[], None], tell: Report) -> None:
    os.environ.update(
        OMP_NUM_THREADS=str(options.threads), MKL_NUM_THREADS=str(options.threads), TOKENIZERS_PARALLELISM="false"
    )
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from residency.training.checkpoints import load_model, load_processor
    from residency.training.pixel_cache import PixelCache
    from residency.training.training_batch import BatchReader

    torch.set_num_threads(options.threads)
    model, processor = load_model(folder / "student", "float32"), load_processor(folder / "student")
    reader = BatchReader(feather.read_table(str(folder / "batch.arrow")))
    pixels = PixelCache(processor, feather.read_table(str(folder / "media.arrow")))
    prepared: list[dict[str, torch.Tensor]] = []
    for index in range(reader.num_rows):
        row = reader.row(index)
        ids = torch.tensor(row.tokens.astype(np.int64))
        labels = ids.clone()
        labels[: row.prompt_length] = -100
        (image,) = pixels.get(row.media)
        prepared.append({"input_ids": ids, "labels": labels, **image.tensors})
    ordered = [prepared[row] for rows in planned_rows(reader.num_rows, options) for row in rows]
    pad, image = int(processor.tokenizer.pad_token_id), int(processor.image_token_id)

    def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        def padded(name: str, value: int) -> torch.Tensor:
            return torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=value)

        ids, labels = padded("input_ids", pad), padded("labels", -100)
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return {
            "input_ids": ids,
            "labels": labels,
            "attention_mask": mask,
            "mm_token_type_ids": ((ids == image) & mask.bool()).int(),
            "pixel_values": torch.cat([row["pixel_values"] for row in rows]),
            "image_grid_thw": torch.cat([row["image_grid_thw"] for row in rows]),
        }

    class Rounds(TrainerCallback):
        """Ends a round after so many steps, and waits for the next."""

        began = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            wait()
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % options.steps == 0:
                seconds = time.perf_counter() - self.began
                tell(seconds, float(losses[-1]))
                if state.global_step < state.max_steps:
                    wait()
                self.began = time.perf_counter()

    losses: list[torch.Tensor] = []

    class Noting(Trainer):
        """Keeps each step's loss (a reference, no computation)."""

        def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
            losses.append(super().training_step(*given, **named))
            return losses[-1]

    arguments = TrainingArguments(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=options.batch,
        max_steps=len(ordered) // options.batch,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        train_sampling_strategy="sequential",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        remove_unused_columns=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    dataset: Any = ordered
    Noting(model=model, args=arguments, data_collator=collate, train_dataset=dataset, callbacks=[Rounds()]).train()


def be_a_side(options: argparse.Namespace) -> None:
    """A child: a round for each line on standard input (the first is the warm-up), its result as a JSON line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints goes to standard error

    def wait() -> None:
        print(json.dumps({"ready": options.side}), file=answers, flush=True)
        if not sys.stdin.readline():
            raise SystemExit(0)

    def tell(seconds: float, loss: float) -> None:
        print(json.dumps({"seconds": seconds, "loss": loss}), file=answers, flush=True)

    {"ours": run_ours, "trainer": run_trainer}[options.side](options.folder, options, wait, tell)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """The warm-up and the rounds of both sides, one after the other in turn."""
    results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    passed = [
        part for name in ("batch", "steps", "rounds", "threads") for part in (f"--{name}", str(vars(options)[name]))
    ]
    with Sides(__file__, SIDES, ["--folder", str(folder), *passed]) as sides:
        for number in range(options.rounds + 1):
            for side in SIDES if number % 2 else reversed(SIDES):
                results[side].append(sides.ask(side))
                if number < options.rounds:
                    sides.hear(side)  # ready again
    return results


def padding(num_rows: int = 20_000, batch_size: int = 32, num_ranks: int = 2) -> dict[str, dict[str, float]]:
    """Shares of padding over an epoch: a batch padded as a whole, and packed by the learner for two ranks."""
    from residency.training.micro_batches import plan_micro_batches
    from residency.training.sft_batches import batches, length_grouped_batches, padding_share

    drawn = np.exp(np.random.default_rng(0).normal(np.log(90), 0.8, num_rows))
    lengths: list[int] = drawn.astype(int).clip(8, 2048).tolist()
    shares: dict[str, dict[str, float]] = {}
    for name, rows in (
        ("shuffled", batches(num_rows, batch_size, seed=0)),
        ("length_grouped", length_grouped_batches(lengths, batch_size, seed=0)),
    ):
        epoch = list(islice(rows, num_rows // batch_size))
        packed = {
            f"packed_in_{limit}_tokens": [
                list(micro)
                for batch in epoch
                for rank in plan_micro_batches(lengths, num_ranks, limit, batch)
                for micro in rank
            ]
            for limit in (4096, 8192)
        }
        shares[name] = {
            kind: round(padding_share(lengths, together), 4)
            for kind, together in {"whole_batch": epoch, **packed}.items()
        }
    return shares


def main() -> None:
    from reporting import report

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16, help="rows of a step")
    parser.add_argument("--steps", type=int, default=16, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help="(internal) be one side")
    parser.add_argument("--folder", type=Path, help="(internal) its work")
    options = parser.parse_args()
    if options.side:
        be_a_side(options)
        return
    if options.steps * options.batch < options.rows:
        parser.error(
            f"--steps × --batch is {options.steps * options.batch}: at least --rows, so that the warm-up sees all"
        )
    with tempfile.TemporaryDirectory(
        prefix="rs-", ignore_cleanup_errors=True
    ) as name:  # short: Ray's sockets are below
        folder = Path(name)
        build_work(folder, options.rows)
        results = measure(folder, options)
    samples = options.steps * options.batch
    rates = {side: [samples / one["seconds"] for one in rounds[1:]] for side, rounds in results.items()}
    ratio = statistics.median(ours / peer for ours, peer in zip(rates["ours"], rates["trainer"], strict=True))
    report(
        "sft",
        round(ratio, 3),
        "one rank's samples/s over Hugging Face Trainer's (median of paired rounds)",
        GOAL_RATIO,
        ratio >= GOAL_RATIO,
        {
            "samples_per_second": {side: round(statistics.median(rate), 1) for side, rate in rates.items()},
            "samples_per_second_by_round": {side: [round(one, 1) for one in rate] for side, rate in rates.items()},
            "last_loss_by_round": {side: [round(one["loss"], 4) for one in rounds] for side, rounds in results.items()},
            "padding_share": padding(),
            "work": {key: vars(options)[key] for key in ("rows", "batch", "steps", "rounds", "threads")},
        },
    )


if __name__ == "__main__":
    main()
