"""The three logs of one start (answers, ledger, outcomes), written together and synced together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from residency.synthesis.pipeline.answers import ANSWER_SCHEMA, ANSWERS, answers_batch
from residency.synthesis.pipeline.arrow_log import ArrowLog
from residency.synthesis.pipeline.ledger import LEDGER, LEDGER_SCHEMA, OUTCOME_SCHEMA, OUTCOMES, rows_batch
from residency.synthesis.teachers.teacher import TeacherReply


def next_start(folder: Path, openings: int) -> int:
    """The number of this start: the journal's openings, or one more than the files of a run that was branched say."""
    numbers = [int(path.name.split("-")[1]) for path in folder.glob("*-*.arrows")]
    return max([openings, *(number + 1 for number in numbers)])


class Shelf:
    """``start`` numbers the starts of a run: each writes files of its own. For one writer's thread at a time."""

    def __init__(self, folder: Path, start: int) -> None:
        self._answers = ArrowLog(folder, f"{ANSWERS}-{start:05d}", ANSWER_SCHEMA)
        self._ledger = ArrowLog(folder, f"{LEDGER}-{start:05d}", LEDGER_SCHEMA)
        self._outcomes = ArrowLog(folder, f"{OUTCOMES}-{start:05d}", OUTCOME_SCHEMA)

    def write(
        self,
        answers: Sequence[tuple[str, TeacherReply]],
        traces: Sequence[tuple[Any, ...]],
        outcomes: Sequence[tuple[Any, ...]],
        working_seconds: float,
    ) -> tuple[str, str]:
        """References of the answers' batch and of the ledger's (empty where there was none): durable by now."""
        answered = self._answers.append(answers_batch(answers, working_seconds)) if answers else ""
        ledger = self._ledger.append(rows_batch(traces, LEDGER_SCHEMA)) if traces else ""
        if outcomes:
            self._outcomes.append(rows_batch(outcomes, OUTCOME_SCHEMA))
        for log in (self._answers, self._ledger, self._outcomes):
            log.sync()
        return answered, ledger

    def close(self) -> None:
        for log in (self._answers, self._ledger, self._outcomes):
            log.close()
