"""The training batch: one Arrow table that every rank reads in place, for SFT and for reinforcement learning alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from residency.platform.errors import DataError

BATCH_SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # of the example or trace
        ("token_ids", pa.list_(pa.int32())),  # prompt with media expanded, then completion
        ("prompt_length", pa.int32()),
        ("loss_weights", pa.list_(pa.float32())),  # one per completion token
        ("advantage", pa.float32()),  # 0 for SFT
        ("sampler_logprobs", pa.list_(pa.float32())),  # one per completion token; empty for SFT
        ("sampled_step", pa.int32()),  # optimizer step of the oldest weights that sampled a token of it; −1 for SFT
        ("media", pa.list_(pa.string())),  # hashes, in the order of their placeholders
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRow:
    """One row, decoded: views into the table's buffers, no copies.

    ``tokens``: int32 [L]; ``weights``: float32 [L − prompt_length]; ``logprobs``: float32 [L − prompt_length] or [0].
    """

    tokens: np.ndarray
    prompt_length: int
    weights: np.ndarray
    advantage: float
    sampled_step: int
    logprobs: np.ndarray
    media: tuple[str, ...]


class BatchReader:
    """Reads rows of a batch table by index. Raises DataError where a row's lengths do not fit each other."""

    def __init__(self, table: pa.Table) -> None:
        absent = [name for name in BATCH_SCHEMA.names if name not in table.column_names]
        if absent:
            raise DataError(f"a training batch without the columns {absent}", f"the columns {BATCH_SCHEMA.names}")
        self.num_rows = table.num_rows
        self._ids = table.column("id")
        self._tokens, self._token_offsets = _flatten(table, "token_ids")
        self._weights, self._weight_offsets = _flatten(table, "loss_weights")
        self._logprobs, self._logprob_offsets = _flatten(table, "sampler_logprobs")
        self._prompt_lengths = table.column("prompt_length").to_numpy()
        self._advantages = table.column("advantage").to_numpy()
        self._sampled_steps = table.column("sampled_step").to_numpy()
        self._media = table.column("media")
        self.lengths = np.diff(self._token_offsets)
        self._check()

    def _check(self) -> None:
        completions = self.lengths - self._prompt_lengths
        logprobs = np.diff(self._logprob_offsets)
        wrong = (completions != np.diff(self._weight_offsets)) | (completions < 1) | (self._prompt_lengths < 1)
        wrong |= (logprobs != 0) & (logprobs != completions)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"batch row {self._ids[row].as_py()!r}: {self.lengths[row]} tokens, prompt of"
                f" {self._prompt_lengths[row]}, {np.diff(self._weight_offsets)[row]} loss weights,"
                f" {logprobs[row]} logprobs",
                "a prompt, a completion, one loss weight per completion token, and as many logprobs or none",
            )

    def row(self, index: int) -> BatchRow:
        return BatchRow(
            tokens=self._tokens[self._token_offsets[index] : self._token_offsets[index + 1]],
            prompt_length=int(self._prompt_lengths[index]),
            weights=self._weights[self._weight_offsets[index] : self._weight_offsets[index + 1]],
            advantage=float(self._advantages[index]),
            sampled_step=int(self._sampled_steps[index]),
            logprobs=self._logprobs[self._logprob_offsets[index] : self._logprob_offsets[index + 1]],
            media=tuple(self._media[index].as_py()),
        )

    def total_weight(self, rows: Sequence[int]) -> float:
        """Sum of the loss weights of these rows: what a token mean over the whole batch divides by."""
        spans = [self._weights[self._weight_offsets[row] : self._weight_offsets[row + 1]] for row in rows]
        return float(sum(float(span.sum(dtype=np.float64)) for span in spans))


def _flatten(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and offsets of a list column."""
    column = table.column(name).combine_chunks()
    lists = column if isinstance(column, pa.ListArray) else pa.concat_arrays(column.chunks)
    return lists.values.to_numpy(zero_copy_only=False), lists.offsets.to_numpy()


def make_batch(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """A batch table from columns in the schema's names; without ``sampled_step`` nothing of it was sampled."""
    whole = {"sampled_step": [-1] * len(columns["id"]), **columns}
    return pa.table({name: pa.array(whole[name], BATCH_SCHEMA.field(name).type) for name in BATCH_SCHEMA.names})
