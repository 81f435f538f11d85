"""Whether an answer in traffic has the form that was asked for, and whether it says anything. No gold answer is needed.

One sees far less of a version by this than on the boards; but it is seen at once, on the users' own questions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from residency.platform.reasoning import split_reasoning

WHOLE = re.compile(r"\s*<think>.*\S.*</think>\s*<answer>.*\S.*</answer>\s*", re.DOTALL)
TAG = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """``malformed``: broken off, without the tags that the question asked for, or with tags out of place."""

    malformed: bool
    abstained: bool


def answer_form(mode: str, asked: str, content: str, reasoning: str, finish_reason: str) -> AnswerForm:
    """The form of one answer. ``mode`` is raw, direct, think or structured; ``asked`` the user's last text.

    In raw mode tags are wanted where the question names them. In mode think they have been read already: there must be
    reasoning and an answer. A structured answer that came out is whole.
    """
    whole = finish_reason == "stop"
    if mode == "raw":
        tagged = "<think>" in asked or TAG.search(content) is not None
        answer = split_reasoning(content)[1]
        return AnswerForm(not whole or not answer or (tagged and WHOLE.fullmatch(content) is None), not answer)
    answer = content.strip()
    if mode == "think":
        return AnswerForm(
            not whole or not answer or not reasoning.strip() or TAG.search(content) is not None, not answer
        )
    return AnswerForm(not whole or not answer or (mode == "direct" and TAG.search(content) is not None), not answer)


def last_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the last message says, its images left out."""
    content = messages[-1].get("content") if messages else ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
