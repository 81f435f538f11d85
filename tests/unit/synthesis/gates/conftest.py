"""Fixtures of the gates' tests."""

from collections.abc import Callable
from typing import Any

import pytest

from residency.platform.records import AnswerKind, Family, Item, Split

MakeItem = Callable[..., Item]


@pytest.fixture
def make_item() -> MakeItem:
    """An item that every rule passes, changed where a test wants it."""

    def make(**changed: Any) -> Item:
        fields: dict[str, Any] = {
            "id": "i1", "content_key": "c1", "source": "s", "split": Split.TRAIN, "licence": "CC-BY-4.0",
            "cluster": "u1", "question": "Which organ is enlarged?", "answer": "liver",
            "answer_kind": AnswerKind.SHORT, "family": Family.MEDICAL_MULTIMODAL,
        }  # fmt: skip
        return Item(**(fields | changed))

    return make
