"""A chat of user and assistant → one row for each answer, with what was said before it in the question."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.platform.prompts import DIRECT_INSTRUCTION, IMAGE_MARKER, THINK_INSTRUCTION
from residency.platform.reasoning import split_reasoning
from residency.platform.records import Item
from residency.synthesis.benchmarks.published_files import UnusableRow
from residency.synthesis.exports.item_json import item_of_json
from residency.synthesis.importing.row_facts import RowFacts
from residency.synthesis.importing.source_row import SourceRow

ROLES = {
    "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant",
    "bot": "assistant", "chatgpt": "assistant", "system": "system", "developer": "system",
}  # fmt: skip
TOOL_ROLES = {"tool", "function", "function_call", "observation", "tool_call", "tool_response"}
RESTORED_COLUMN = "residency"


@dataclass(frozen=True, slots=True)
class Turn:
    """``role`` is user, assistant or system; each image of the text stands in it as a marker."""

    role: str
    text: str


def role_of(name: object) -> str:
    """The role by any of its usual names; raises UnusableRow for tools and for what is no role."""
    role = str(name).strip().casefold()
    if role in TOOL_ROLES:
        raise UnusableRow("it calls tools", f"the role {name}")
    if role not in ROLES:
        raise UnusableRow("a message's role is not known", repr(name)[:60])
    return ROLES[role]


def list_of(value: Any, what: str) -> Sequence[Any]:
    """A list, also one that is written as JSON in a cell; raises UnusableRow for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise UnusableRow(f"its {what} are no list", value[:80]) from None
    if not isinstance(value, (list, tuple)) or not value:
        raise UnusableRow(f"its {what} are no list" if value else f"no {what}", repr(value)[:80])
    return value


def plain_prompt(text: str) -> str:
    """A user's text without what the platform adds itself: images before or after all text, and its instructions."""
    text = text.strip()
    after = text
    while after.startswith(IMAGE_MARKER):
        after = after.removeprefix(IMAGE_MARKER).strip()
    if IMAGE_MARKER not in after:
        text = after
    elif text.count(IMAGE_MARKER) == 1:
        text = text.removesuffix(IMAGE_MARKER)
    for instruction in (DIRECT_INSTRUCTION, THINK_INSTRUCTION):
        text = text.removesuffix(f"\n{instruction}")
    return text.strip()


def answer_rows(
    turns: Sequence[Turn],
    images: Sequence[bytes | Path],
    facts: RowFacts,
    labels: Mapping[str, Any],
    restored: Item | None,
) -> Iterator[SourceRow]:
    """The rows of a chat; raises UnusableRow where it does not alternate, or images and their markers are not as many.

    Reasoning in ``<think>`` is kept in the metadata; the answer is what stands in ``<answer>``, else the whole text.
    """
    system = "\n".join(turn.text for turn in turns if turn.role == "system")
    spoken = [turn for turn in turns if turn.role != "system"]
    if len(spoken) < 2 or any(turn.role != ("user", "assistant")[i % 2] for i, turn in enumerate(spoken)):
        raise UnusableRow("user and assistant do not take turns", ", ".join(turn.role for turn in spoken)[:80])
    markers = sum(turn.text.count(IMAGE_MARKER) for turn in spoken[::2])
    if markers and markers != len(images):
        raise UnusableRow(
            "its image markers and its images are not as many", f"{markers} markers, {len(images)} images"
        )
    before: list[str] = []
    pairs = list(zip(spoken[::2], spoken[1::2], strict=False))  # a last question without an answer asks nothing
    for number, (asked, answered) in enumerate(pairs, start=1):
        question = plain_prompt("\n".join([*before, asked.text.strip()]))
        shown = sum(turn.text.count(IMAGE_MARKER) for turn in spoken[: 2 * number : 2]) if markers else len(images)
        reasoning, answer = split_reasoning(answered.text)
        turn = {"turn": number} if len(pairs) > 1 else {}
        said = {"system": system} if system else {}
        thought = {"reasoning": reasoning} if reasoning else {}
        named: dict[str, Any] = facts.fields() | {"key": facts.key if number == 1 else f"{facts.key}:{number}"}
        if named["unit"] is None and len(pairs) > 1 and not images:
            named["unit"] = f"chat {facts.key}"  # the turns of a chat stay together
        yield SourceRow(
            **named,
            question=question,
            answer=answer,
            images=tuple(images[:shown]),
            metadata={**labels, **turn, **said, **thought},
            restored=restored if len(pairs) == 1 else None,
        )
        before += [asked.text.strip(), f"Answer: {answer}"]


def restored_item(fields: Mapping[str, Any]) -> Item | None:
    """The item that our own export wrote beside the row; None where there is none, or it is of another form."""
    written = fields.get(RESTORED_COLUMN)
    return item_of_json(written) if isinstance(written, str) else None
