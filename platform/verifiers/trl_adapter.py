"""TRL's reward functions, unchanged: `reward_func(prompts, completions, **columns) -> list[float | None]`.

TRL hands over texts where its dataset is of the standard form and lists of chat messages where it is conversational
(`trl` and `trl_chat`), every other column of the dataset as a list of the same length, and three things of the trainer
of which there is nothing here: no state, and nowhere to log to.
"""

from collections.abc import Sequence
from typing import Any

from residency.platform.prompts import render_prompt
from residency.platform.verifiers.format_rule import without_end_token
from residency.platform.verifiers.judge_request import JudgeRequest


def log_nothing(*_: Any, **__: Any) -> None:
    """Stands for TRL's `log_extra` and `log_metric`."""


def row_of(request: JudgeRequest) -> dict[str, Any]:
    """The columns of one row; the item's metadata are columns too and outrank ours of the same name."""
    item = request.item
    return {
        "id": item.id,
        "source": item.source,
        "question": item.question,
        "options": list(item.options),
        "answer": item.answer,
        "solution": item.answer,
        "ground_truth": item.answer,
        "answer_kind": item.answer_kind.value,
        **item.metadata,
    }


def trl_arguments(requests: Sequence[JudgeRequest], as_chat: bool) -> dict[str, Any]:
    """The keywords of one call; a column that a row lacks holds None there."""
    rows = [row_of(request) for request in requests]
    names = dict.fromkeys(name for row in rows for name in row)
    columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in names}
    prompts = [render_prompt(request.item, request.mode) for request in requests]
    completions = [without_end_token(request.text) for request in requests]
    return columns | {
        "prompts": [[{"role": "user", "content": text}] for text in prompts] if as_chat else prompts,
        "completions": [[{"role": "assistant", "content": text}] for text in completions] if as_chat else completions,
        "trainer_state": None,
        "log_extra": log_nothing,
        "log_metric": log_nothing,
    }
