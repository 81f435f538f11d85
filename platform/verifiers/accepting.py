"""When an answer counts as right: the one rule that outcomes, the test kit and rescoring share."""

from residency.platform.records import Status, Verdict


def accept(verdict: Verdict) -> bool:
    """Scored, and fully right: exact where the kind has it (an open answer's accuracy is its token F1), else accuracy.

    An abstained answer is not accepted; neither is an error or a timeout, which say nothing about the answer.
    """
    parts = verdict.parts
    return verdict.status is Status.SCORED and parts.get("exact", parts.get("accuracy", 0.0)) >= 1.0
