"""A finished pipeline's answers and ledger as traces and verdicts, for the steps that make examples of them."""

from collections.abc import Iterator
from pathlib import Path

from residency.platform.records import PromptMode, Status, Trace, Verdict
from residency.synthesis.annotations_teacher import TEACHER_NAME
from residency.synthesis.pipeline.answers import ANSWERS
from residency.synthesis.pipeline.arrow_log import read_log
from residency.synthesis.pipeline.ledger import LEDGER, last_rows, trace_id
from residency.synthesis.pipeline.seats import STUDENT_PROMPT
from residency.synthesis.pipeline.settling import BROKEN, MALFORMED
from residency.synthesis.routing.samples import Strategy


def read_texts(folder: Path) -> dict[str, tuple[str, str]]:
    """Trace id → (text, finish reason) of every answer on disk."""
    found = {}
    for batch in read_log(folder, ANSWERS, ["key", "text", "finish_reason"]):
        for key, text, reason in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            found[trace_id(key, text)] = (text, reason)
    return found


def read_traces(folder: Path) -> Iterator[tuple[Trace, Verdict]]:
    """Every judged trace but second answers, in the ledger's order: right ones, and wrong ones for reflection.

    The verdict's part ``kept`` is 1 where routing accepted the trace; a right one with 0 must not be taught.
    """
    texts = read_texts(folder)
    for row in last_rows(folder, LEDGER, "key"):
        if row["verdict"] == MALFORMED or row["strategy"] == Strategy.REANSWER:
            continue
        text, finish_reason = texts[row["trace_id"]]
        parts = {
            "accuracy": row["accuracy"],
            "format": float(row["reason"] != BROKEN),
            "kept": float(row["decision"] == "accepted"),
        }
        yield (
            Trace(
                id=row["trace_id"],
                item_id=row["item_id"],
                role="policy" if row["prompt"] == STUDENT_PROMPT and row["teacher"] != TEACHER_NAME else "teacher",
                model=row["model"],
                prompt_mode=PromptMode.THINK,
                prompt_hash=row["prompt_hash"],
                seed=row["seed"],
                sample_index=int(row["key"].rpartition("/")[2]),
                text=text,
                finish_reason=finish_reason,
                seconds=row["seconds"],
            ),
            Verdict(
                trace_id=row["trace_id"],
                status=Status(row["verdict"]),
                score=row["accuracy"],
                parts={} if row["accuracy"] is None else parts,
                evidence=row["evidence"],
                verifier="ledger",
                verifier_version="1",
            ),
        )


def read_verdicts(folder: Path) -> Iterator[Verdict]:
    """The verdict on every trace of the ledger, also on second answers; a malformed reply abstained."""
    for row in last_rows(folder, LEDGER, "key"):
        abstained = row["verdict"] == MALFORMED
        accuracy = 0.0 if abstained else row["accuracy"]
        sound = float(not abstained and row["reason"] != BROKEN)
        yield Verdict(
            trace_id=row["trace_id"],
            status=Status.ABSTAINED if abstained else Status(row["verdict"]),
            score=accuracy,
            parts={} if accuracy is None else {"accuracy": accuracy, "format": sound},
            evidence=row["evidence"] or row["reason"],
            verifier="ledger",
            verifier_version="1",
        )
