"""The verifiers' test kit: frozen answers of every kind, each with the verdict that a careful reader would give.

``blind.jsonl`` was written without sight of the rules and is pinned by ``blind.sha256``; the other files (golden,
paraphrased, mutated and adversarial answers) were written with it. One case a line; ``note`` says why it is right or
wrong. ``{{repeat:N:STRING}}`` in a text stands for N times STRING, so that answers of a megabyte stay readable.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split

KIT = Path(__file__).resolve().parent
KINDS = (AnswerKind.CHOICE, AnswerKind.YES_NO, AnswerKind.SHORT, AnswerKind.NUMBER, AnswerKind.BOX, AnswerKind.OPEN)
REPEAT = re.compile(r"\{\{repeat:(\d{1,8}):(.*?)\}\}", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One answer to one question. ``right``: it must be accepted; otherwise it must not be. ``source``: its file."""

    id: str
    kind: AnswerKind
    question: str
    options: tuple[str, ...]
    answer: str
    metadata: Mapping[str, Any]
    mode: PromptMode
    text: str
    right: bool
    family: str  # golden | paraphrased | mutated | adversarial
    note: str
    source: str

    def item(self) -> Item:
        """The question as an item whose id is the case's."""
        return Item(
            id=self.id,
            content_key=self.id,
            source=f"kit/{self.source}",
            split=Split.HELD_OUT,
            licence="none",
            cluster=self.id,
            question=self.question,
            options=self.options,
            answer=self.answer,
            answer_kind=self.kind,
            family=Family.MEDICAL_MULTIMODAL,
            metadata=self.metadata,
        )


def expand(text: str) -> str:
    """The text with its repetitions written out: ``{{repeat:3:ab}}`` is ``ababab``."""
    return REPEAT.sub(lambda found: found[2] * int(found[1]), text)


def read_cases(path: Path) -> list[Case]:
    """The cases of one file, in its order."""
    cases: list[Case] = []
    with path.open(encoding="utf-8") as lines:  # by line feed only: a text may hold other line separators
        for line in lines:
            row = json.loads(line)
            cases.append(
                Case(
                    id=row["id"],
                    kind=AnswerKind(row["kind"]),
                    question=row["question"],
                    options=tuple(row.get("options") or ()),
                    answer=row["answer"],
                    metadata=row.get("metadata") or {},
                    mode=PromptMode(row["mode"]),
                    text=expand(row["text"]),
                    right=row["right"],
                    family=row["family"],
                    note=row["note"],
                    source=path.stem,
                )
            )
    return cases


def load_cases(folder: Path = KIT) -> list[Case]:
    """Every case of the kit, file by file in the order of their names."""
    return [case for path in sorted(folder.glob("*.jsonl")) for case in read_cases(path)]
