"""A reply and its verdict become a sample; a decided item becomes rows of the ledger."""

from typing import Any

from residency.platform.reasoning import split_reasoning
from residency.platform.records import Item, Status, Verdict
from residency.synthesis.pipeline.ledger import trace_id
from residency.synthesis.pipeline.lives import Job, Life
from residency.synthesis.pipeline.seats import Seat
from residency.synthesis.rejection import unfaithful
from residency.synthesis.routing.actions import Accept, Drop
from residency.synthesis.routing.leaks import find_leak
from residency.synthesis.routing.samples import Sample, Strategy, first_draws
from residency.synthesis.teachers.teacher import TeacherReply

MALFORMED, UNFAITHFUL, BROKEN = "malformed", "unfaithful", "broken format"


def settle(job: Job, reply: TeacherReply, verdict: Verdict | None, is_student: bool = False) -> Sample:
    """What routing must know of one reply; ``verdict`` is None where there was nothing to judge.

    A right answer that is reasoned by what the item's facts contradict is right, and cannot be kept.
    """
    right: bool | None = None
    if reply.fault:
        fault = f"{MALFORMED}: {reply.fault}"[:200]
    elif verdict is None or verdict.status in (Status.ERROR, Status.TIMEOUT):
        fault = f"not judged: {verdict.evidence if verdict else 'the item cannot be judged'}"[:200]
    else:
        right = verdict.parts.get("accuracy", 0.0) == 1.0
        fault = "" if verdict.parts.get("format", 1.0) == 1.0 else BROKEN
        if right and not fault and job.strategy is Strategy.WITH_REFERENCE:
            leak = find_leak(split_reasoning(reply.text)[0])
            fault = f"leak ({leak})" if leak else ""
        if right and not fault and job.strategy is not Strategy.REANSWER:
            cause = unfaithful(job.life.item, reply.text, is_student)
            fault = f"{UNFAITHFUL}: {cause}"[:200] if cause else ""
    return Sample(strategy=job.strategy, teacher=job.teacher, right=right, fault=fault, of=job.of)


def decision_of(number: int, sample: Sample, action: Accept | Drop) -> tuple[str, str]:
    """(decision, reason) of one trace of a decided item."""
    if isinstance(action, Accept) and number in action.samples:
        return "accepted", ""
    if sample.strategy is Strategy.REANSWER:
        return "rejected", f"second answer to sample {sample.of}, " + ("the same" if sample.right else "another")
    if sample.fault:
        return "rejected", sample.fault
    if not sample.right:
        return "rejected", "wrong answer"
    if isinstance(action, Drop):
        return "rejected", f"item dropped: {action.reason}"
    return "rejected", "right, but not kept: its masked reasoning did not lead there, or a stronger teacher was asked"


def ledger_rows(life: Life, action: Accept | Drop, seats: list[Seat]) -> list[tuple[Any, ...]]:
    """Rows of ``LEDGER_SCHEMA``, one a sample."""
    item, rows = life.item, []
    source_row = str(item.metadata.get("row", ""))
    for job, sample, reply, verdict in zip(life.jobs, life.samples, life.replies, life.verdicts, strict=True):
        assert sample is not None
        assert reply is not None
        seat = seats[job.teacher]
        prompt, digest = seat.prompt_name(item, job.strategy)
        decision, reason = decision_of(job.number, sample, action)
        rows.append(
            (
                trace_id(job.key, reply.text), job.key, item.id, item.source, source_row, item.licence,
                seat.teacher.name, reply.model, reply.revision, prompt, digest, job.seed, job.temperature,
                reply.tokens_in, reply.tokens_out, reply.cost, reply.seconds,
                verdict.status.value if verdict else MALFORMED if reply.fault else Status.ERROR.value,
                None if sample.right is None else float(sample.right), verdict.evidence if verdict else "",
                job.strategy.value, decision, reason,
            )
        )  # fmt: skip
    return rows


def outcome_row(life: Life, action: Accept | Drop, seats: list[Seat]) -> tuple[Any, ...]:
    """A row of ``OUTCOME_SCHEMA``."""
    right, judged = first_draws(life.settled())
    if isinstance(action, Drop):
        return life.item.id, "rejected", action.reason, right, judged, "", 0, len(life.jobs)
    solver = seats[life.jobs[action.samples[0]].teacher].teacher.name
    return life.item.id, "accepted", "", right, judged, solver, len(action.samples), len(life.jobs)


def unjudged(item: Item, cause: str) -> Verdict:
    """Our own failure on an item that no rule can judge: without a score, and never the teacher's fault."""
    return Verdict(
        trace_id=item.id, status=Status.ERROR, score=None, evidence=cause, verifier="rules", verifier_version=""
    )
