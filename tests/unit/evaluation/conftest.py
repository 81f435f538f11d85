"""Tables of outcomes and items for the tests of evaluation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.training.evaluation.outcomes import OUTCOME_SCHEMA


@pytest.fixture
def make_table() -> Callable[..., pl.DataFrame]:
    """A table of scored answers from a list of right or wrong: questions ``q0``, ``q1``, …, each a cluster."""

    def make(rights: Sequence[bool], **columns: Any) -> pl.DataFrame:
        rows = [
            {
                "item_id": f"q{number}",
                "cluster": f"image{number}",
                "dataset": "starter",
                "task": "presence",
                "sample_index": 0,
                "correct": right,
                "valid_format": True,
                "status": "scored",
                "answer_kind": "yes_no",
                "answer": "yes",
                "gold": "yes" if number % 3 else "no",
                "n_options": 0,
                "seed": 0,
            }
            | columns
            for number, right in enumerate(rights)
        ]
        return pl.DataFrame(rows, schema=dict(OUTCOME_SCHEMA))

    return make


@pytest.fixture
def make_item() -> Callable[..., Item]:
    """An item ``q<number>`` with the fields that a test cares for."""

    def make(number: int, *, metadata: Mapping[str, Any] | None = None, **fields: Any) -> Item:
        usual: dict[str, Any] = {
            "id": f"q{number}",
            "content_key": f"k{number}",
            "source": "starter",
            "split": Split.HELD_OUT,
            "licence": "CC0",
            "cluster": f"image{number}",
            "question": "is a lesion present?",
            "answer": "yes",
            "answer_kind": AnswerKind.YES_NO,
            "family": Family.MEDICAL_MULTIMODAL,
            "metadata": metadata or {},
        }
        return Item(**(usual | fields))

    return make
