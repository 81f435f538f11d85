"""A stand-in for DeepSpeed in a learner rank: some numbers that remember what they were trained on, bit for bit.

It takes DeepSpeed's place inside the shipped LearnerActor, so group, ranks and publisher are the real ones.
Every rank computes the whole batch, as the state does not depend on their number then. What it learns is of no use; but
each step depends on all steps before it and on the order of its rows, so that a group lost, doubled or trained on in
another order leaves other weights. ``taught.json`` in a checkpoint names the rows of each step behind its weights.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from residency.actors.learner import LearnerActor
from residency.training.batch_stats import BatchStats, StepStats
from residency.training.learner_state import LearnerState, file_digest, read_state, write_record
from residency.training.losses import LossConfig
from residency.training.rank_address import RankAddress
from residency.training.training_batch import BatchReader

NUM_WEIGHTS = 512
BATCH_SECONDS = 0.6  # of a forward and backward pass: room for three faults, one after the other
WEIGHTS, STATE, TAUGHT = "model.safetensors", "state/momentum.npy", "taught.json"


def write_weights(folder: Path, weights: np.ndarray) -> None:
    """A Hugging Face folder as far as the platform looks at one."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"w": weights}, folder / WEIGHTS)
    (folder / "config.json").write_text("{}")


class LightEngine:
    """What LearnerActor asks of its engine; ``num_ranks`` ranks hold the same."""

    def __init__(
        self, model_dir: Path, settings: Any, address: RankAddress, resume: bool, batch_seconds: float, remembers: bool
    ) -> None:
        self.address, self.settings = address, settings
        self._batch_seconds, self._remembers = batch_seconds, remembers
        self._load(model_dir, resume)

    def _load(self, model_dir: Path, resume: bool) -> None:
        from safetensors.numpy import load_file

        self._weights = load_file(model_dir / WEIGHTS)["w"].copy()
        self._momentum, self._taught, self.step = np.zeros_like(self._weights), list[list[Any]](), 0
        if resume:
            self.step = read_state(model_dir).step
            self._momentum = np.load(model_dir / STATE)
            self._taught = json.loads((model_dir / TAUGHT).read_text())
        self._gradient, self._rows = np.zeros_like(self._weights), list[str]()

    def forward_backward(self, batch: pa.Table, rows: Sequence[int] | None, loss: LossConfig) -> BatchStats:
        time.sleep(self._batch_seconds)
        reader, ids, tokens, total = BatchReader(batch), batch.column("id").to_pylist(), 0, 0.0
        for number in range(reader.num_rows) if rows is None else rows:
            row = reader.row(number)
            completion = row.tokens[row.prompt_length :]
            felt = row.logprobs * np.float32(row.advantage)
            grown = np.bincount(completion % NUM_WEIGHTS, weights=felt, minlength=NUM_WEIGHTS).astype(np.float32)
            self._gradient += grown * (1 + np.tanh(self._weights))
            self._rows.append(ids[number])
            tokens, total = tokens + len(completion), total + float(felt.sum())
        if self.address.rank:
            return BatchStats()
        return BatchStats(num_rows=len(self._rows), num_tokens=tokens, num_input_tokens=tokens, loss=total)

    def optim_step(self) -> StepStats:
        norm = float(np.linalg.norm(self._gradient))
        self._momentum = np.float32(0.9) * self._momentum + self._gradient
        self._weights -= np.float32(0.01) * self._momentum / (1 + np.abs(self._momentum))
        self.step += 1
        if self._remembers:
            self._taught.append([self.step, self._rows])
        self._gradient, self._rows = np.zeros_like(self._weights), []
        return StepStats(step=self.step, learning_rate=0.01, gradient_norm=norm, seconds=0.0)

    def gather_weights(self) -> Iterator[list[tuple[str, Any]]]:
        import torch

        yield [("w", torch.from_numpy(self._weights))]

    def save_checkpoint(self, out: Path, incarnation: int = 0, state: Mapping[str, Any] | None = None) -> Path:
        """Aside and then renamed, by rank 0, with digests of all files, as the real engine does it."""
        if self.address.rank:
            return out
        aside = out.with_name(f".{out.name}.light")
        shutil.rmtree(aside, ignore_errors=True)
        write_weights(aside, self._weights)
        (aside / TAUGHT).write_text(json.dumps(self._taught))
        if state is not None:
            (aside / STATE).parent.mkdir()
            np.save(aside / STATE, self._momentum)
            files = {name: file_digest(aside / name) for name in (WEIGHTS, STATE, TAUGHT, "config.json")}
            write_record(aside, self._record(incarnation, state, files))
        if out.exists():
            gone = out.with_name(f".{out.name}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            out.rename(gone)
            shutil.rmtree(gone)
        aside.rename(out)
        return out

    def _record(self, incarnation: int, state: Mapping[str, Any], files: Mapping[str, str]) -> LearnerState:
        return LearnerState(
            step=self.step, incarnation=incarnation, num_ranks=self.address.num_ranks, zero_stage=2, dtype="float32",
            lora=None, mapping=state, files=files,
        )  # fmt: skip

    def load_checkpoint(self, model_dir: Path, optimizer: Any, total_steps: Any, resume: bool, lora: Any) -> None:
        self._load(model_dir, resume)

    def close(self) -> None:
        """Nothing is held."""


def join_light(
    actor: LearnerActor,
    address: RankAddress,
    media: pa.Table,
    resume: bool,
    batch_seconds: float = BATCH_SECONDS,
    remembers: bool = True,
) -> None:
    """Run on each rank's actor in place of ``actors.learner.join``; ``remembers``: all rollouts of all steps."""
    actor._engine = LightEngine(actor._model_dir, actor._settings, address, resume, batch_seconds, remembers)
