"""Can the verifiers be trusted on this dataset: gold answers must score 1, corrupted ones 0."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from residency.platform.errors import DataError
from residency.platform.prompts import render_completion
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Item, PromptMode
from residency.platform.verifiers.box import mean_iou, read_boxes
from residency.platform.verifiers.choice import judge_choice
from residency.platform.verifiers.judging import judge
from residency.platform.verifiers.number import wanted_of
from residency.platform.verifiers.short import gold_form
from residency.platform.verifiers.yes_no import gold_of

REWARD = RewardConfig(weights={"accuracy": 1.0})
REASONING = "as the picture shows"
OPPOSITES = {"left": "right", "right": "left", "upper": "lower", "lower": "upper", "左": "右", "右": "左"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfCheckFailure:
    """A row whose gold answer does not score 1, or whose corrupted answer does not score 0."""

    item_id: str
    kind: AnswerKind
    answered: str
    wanted: float
    score: float | None  # None where the item cannot be judged at all
    evidence: str

    def __str__(self) -> str:
        got = "cannot be judged" if self.score is None else f"{self.answered!r} scores {self.score:g}"
        return f"{self.item_id} ({self.kind.value}): {got}, wanted {self.wanted:g}; {self.evidence}"


def corrupted_answers(item: Item) -> Iterator[str]:
    """Answers of the item's kind that are certainly wrong."""
    answer = item.answer
    match item.answer_kind:
        case AnswerKind.CHOICE:
            for option in item.options:
                if judge_choice(replace(item, answer=option), answer).accuracy == 0:
                    yield option
            yield ", ".join(item.options) if len(item.options) > 1 else "none of these"
        case AnswerKind.YES_NO:
            yield "no" if gold_of(answer) == "yes" else "yes"
            yield "yes or no"
        case AnswerKind.NUMBER:
            wanted = wanted_of(item)
            value, unit = wanted.high, wanted.unit
            yield f"{value + max(1.0, abs(value)):g} {unit}".strip()
            yield f"-{abs(value) + 1:g} {unit}".strip()
        case AnswerKind.BOX:
            boxes = read_boxes(answer)
            corners = ((0.0, 0.0, 0.05, 0.05), (0.95, 0.95, 1.0, 1.0))
            for corner in corners:
                if isinstance(boxes, tuple) and mean_iou((corner,), boxes) < 0.5:
                    yield json.dumps([corner])
        case AnswerKind.SHORT:
            turned = re.sub(r"[左右]|\w+", lambda word: OPPOSITES.get(word[0].casefold(), word[0]), answer)
            yield turned if gold_form(turned) != gold_form(answer) else f"not {answer}"
        case AnswerKind.OPEN | AnswerKind.REPORT:
            yield "qzx"  # a word that no answer shares


def first_failure(item: Item) -> SelfCheckFailure | None:
    """The item's first wrong verdict; None where all are as they must be."""

    def score_of(answer: str, mode: PromptMode) -> tuple[float, str]:
        verdict = judge(item, item.id, render_completion(answer, mode, REASONING), mode, REWARD)
        return verdict.score or 0.0, verdict.evidence

    try:
        cases = [(item.answer, 1.0), *((answer, 0.0) for answer in corrupted_answers(item))]
        for answer, wanted in cases:
            for mode in PromptMode:
                score, evidence = score_of(answer, mode)
                if score != wanted:
                    return SelfCheckFailure(
                        item_id=item.id,
                        kind=item.answer_kind,
                        answered=answer,
                        wanted=wanted,
                        score=score,
                        evidence=evidence,
                    )
    except DataError as error:
        return SelfCheckFailure(
            item_id=item.id, kind=item.answer_kind, answered=item.answer, wanted=1.0, score=None, evidence=str(error)
        )
    return None


def self_check(items: Iterable[Item]) -> list[SelfCheckFailure]:
    """One failure for each row whose verdicts cannot be trusted, in the order of the items."""
    failures = (first_failure(item) for item in items)
    return [failure for failure in failures if failure is not None]
