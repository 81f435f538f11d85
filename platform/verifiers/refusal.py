"""The verdict on a question that the engine did not take (too long, most often): our fault, so it has no score."""

from residency.platform.records import Status, Verdict


def refusal_verdict(trace_id: str, reason: str) -> Verdict:
    """``reason`` is the trace's text: the engine's own words."""
    return Verdict(
        trace_id=trace_id, status=Status.ERROR, score=None, evidence=reason, verifier="engine", verifier_version="1"
    )
