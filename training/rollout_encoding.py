"""From sampled traces to training batches: the engine's own tokens, nothing is tokenized twice.

Imports neither torch nor transformers, so that a synthesizer that takes a dead one's place is at work in a second.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from residency.platform.errors import DataError
from residency.platform.records import PolicyVersion
from residency.training.training_batch import make_batch


def oldest_step(packed: Sequence[int]) -> int:
    """Optimizer step of the oldest of a trace's versions; −1 where it has none."""
    return min((PolicyVersion.unpack(version).step for version in set(packed)), default=-1)


def encode_rollouts(traces: pa.Table, advantages: Mapping[str, float], media: Mapping[str, Sequence[str]]) -> pa.Table:
    """Sampled traces → a training batch of those that have an advantage (by trace id), in the table's order.

    ``media`` gives the images of each item id. Token in, token out: the engine's own prompt and completion ids.
    Raises DataError for a trace without tokens or with another number of logprobs than tokens.
    """
    names = ("id", "item_id", "prompt_token_ids", "token_ids", "logprobs", "policy_versions")
    rows = [row for row in traces.select(list(names)).to_pylist() if row["id"] in advantages]
    for row in rows:
        if not row["token_ids"] or len(row["logprobs"]) != len(row["token_ids"]) or not row["prompt_token_ids"]:
            raise DataError(
                f"trace {row['id']}: {len(row['prompt_token_ids'])} prompt tokens, {len(row['token_ids'])} tokens,"
                f" {len(row['logprobs'])} logprobs",
                "a sampled trace with one logprob for each token",
                "give no advantage to traces that no engine sampled",
            )
    return make_batch(
        {
            "id": [row["id"] for row in rows],
            "token_ids": [row["prompt_token_ids"] + row["token_ids"] for row in rows],
            "prompt_length": [len(row["prompt_token_ids"]) for row in rows],
            "loss_weights": [[1.0] * len(row["token_ids"]) for row in rows],
            "advantage": [advantages[row["id"]] for row in rows],
            "sampler_logprobs": [row["logprobs"] for row in rows],
            "sampled_step": [oldest_step(row["policy_versions"]) for row in rows],
            "media": [list(media[row["item_id"]]) for row in rows],
        }
    )
