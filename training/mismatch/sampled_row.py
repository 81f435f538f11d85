"""One rollout as the sampler told it and as the trainer was given it: where they differ, something was made twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from residency.platform.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredTokens:
    """What a model is asked: the logprob of each completion token after the prompt, with these images."""

    prompt_ids: tuple[int, ...]  # with media expanded
    token_ids: tuple[int, ...]
    media: tuple[str, ...]  # hashes, in order


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledRow:
    """``sampled`` and ``sampler_logprobs`` are the trace's own; ``trained`` and ``trained_logprobs`` the batch's.

    ``oldest_version`` and ``newest_version`` (packed) are of the weights that the engine says it sampled with.
    ``prompt`` is the text that the engine was asked, None where it is not known.
    """

    id: str
    sampled: ScoredTokens
    sampler_logprobs: np.ndarray  # float64 [T]
    trained: ScoredTokens
    trained_logprobs: np.ndarray  # float64 [T of the batch]: the sampler's, as the loss was given them
    text: str
    prompt: str | None
    oldest_version: int
    newest_version: int

    @property
    def has_image(self) -> bool:
        return bool(self.sampled.media)

    def with_trained(self, *, prompt: bool = False, completion: bool = False) -> tuple[ScoredTokens, np.ndarray]:
        """What was trained on, with the trace's own prompt or completion in its place; and the logprobs beside it."""
        tokens, logprobs = self.trained, self.trained_logprobs
        if prompt:
            tokens = replace(tokens, prompt_ids=self.sampled.prompt_ids)
        if completion:
            tokens, logprobs = replace(tokens, token_ids=self.sampled.token_ids), self.sampler_logprobs
        return tokens, logprobs


def sampled_rows(traces: pa.Table, batch: pa.Table, prompts: Mapping[str, str] | None = None) -> list[SampledRow]:
    """A batch's rows with their traces (a Trace table that holds each of them), in the batch's order.

    ``prompts``: the text that was asked, by item id. Raises DataError for a row without a trace.
    """
    names = ("id", "item_id", "prompt_token_ids", "token_ids", "logprobs", "text", "policy_versions")
    by_id = {trace["id"]: trace for trace in traces.select(list(names)).to_pylist()}
    rows: list[SampledRow] = []
    for row in batch.to_pylist():
        trace = by_id.get(row["id"])
        if trace is None or not trace["policy_versions"]:
            raise DataError(f"batch row {row['id']} has no sampled trace", "the traces of the step's groups")
        media, cut = tuple(row["media"]), row["prompt_length"]
        rows.append(
            SampledRow(
                id=row["id"],
                sampled=_scored(trace["prompt_token_ids"], trace["token_ids"], media),
                sampler_logprobs=np.array(trace["logprobs"], np.float64),
                trained=_scored(row["token_ids"][:cut], row["token_ids"][cut:], media),
                trained_logprobs=np.array(row["sampler_logprobs"], np.float64),
                text=trace["text"],
                prompt=(prompts or {}).get(trace["item_id"]),
                oldest_version=min(trace["policy_versions"]),
                newest_version=max(trace["policy_versions"]),
            )
        )
    return rows


def fresh_rows(rows: Sequence[SampledRow], version: int) -> list[SampledRow]:
    """Those whose every token was sampled by these weights (packed version), as far as the engine says."""
    return [row for row in rows if row.oldest_version == row.newest_version == version]


def _scored(prompt_ids: Sequence[int], token_ids: Sequence[int], media: tuple[str, ...]) -> ScoredTokens:
    return ScoredTokens(prompt_ids=tuple(prompt_ids), token_ids=tuple(token_ids), media=media)
