"""verl's reward functions, unchanged: `compute_score(data_source, solution_str, ground_truth, extra_info)`.

verl calls them by keyword, with the response decoded without special tokens; a dict that they return carries the
reward under `score` (its reward managers `naive` and `dapo`), and the rest of it is kept as information.
"""

from collections.abc import Mapping
from typing import Any

from residency.platform.errors import RoleError
from residency.platform.verifiers.format_rule import without_end_token
from residency.platform.verifiers.judge_request import JudgeRequest


def verl_arguments(request: JudgeRequest) -> dict[str, Any]:
    """The keywords of one call. The item's metadata stand in ``extra_info`` and outrank our fields of the same name.

    ``ground_truth`` is the metadata's where the dataset has one (a letter, say), else the item's answer.
    """
    item = request.item
    return {
        "data_source": item.source,
        "solution_str": without_end_token(request.text),
        "ground_truth": item.metadata.get("ground_truth", item.answer),
        "extra_info": {
            "index": item.id,
            "split": item.split.value,
            "question": item.question,
            "options": list(item.options),
            "answer": item.answer,
            "answer_kind": item.answer_kind.value,
            **item.metadata,
        },
    }


def verl_score(answer: Any) -> tuple[Any, str]:
    """The score and, of a dict, the rest in words; raises RoleError for a dict without `score`."""
    if not isinstance(answer, Mapping):
        return answer, ""
    if "score" not in answer:
        raise RoleError(f"compute_score returned the keys {sorted(map(str, answer))[:8]}", "`score` among them")
    rest = ", ".join(f"{key} {str(value)[:80]!r}" for key, value in list(answer.items())[:8] if key != "score")
    return answer["score"], rest
