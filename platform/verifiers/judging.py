"""One trace, one verdict: finds the answer span, applies the kind's rule and composes the score."""

from residency.platform.recipe import RewardConfig
from residency.platform.records import Item, PromptMode, Status, Verdict
from residency.platform.verifiers.answer_span import answer_span
from residency.platform.verifiers.finding import Finding
from residency.platform.verifiers.format_rule import format_fault
from residency.platform.verifiers.rules import VERIFIER_VERSION, judge_answer


def judge(item: Item, trace_id: str, text: str, mode: PromptMode, reward: RewardConfig) -> Verdict:
    """The verdict on one completion: score = format_weight · format + accuracy_weight · accuracy.

    A text without an answer is ``abstained``: accuracy 0, and the score is the format's share alone. Raises DataError
    for an item that cannot be judged (``check_item``), never for a text.
    """
    fault = format_fault(text, mode)
    form = 0.0 if fault else 1.0
    span = answer_span(text, mode)
    finding = Finding(None, "no answer span") if span is None else judge_answer(item, span)
    accuracy = finding.accuracy or 0.0
    shown = "no span" if span is None else f"span {span[:80]!r}"
    return Verdict(
        trace_id=trace_id,
        status=Status.ABSTAINED if finding.accuracy is None else Status.SCORED,
        score=reward.format_weight * form + reward.accuracy_weight * accuracy,
        parts={"format": form, "accuracy": accuracy, **finding.parts},
        evidence=f"{shown}; {finding.rule}; {'format ok' if fault is None else 'format: ' + fault}",
        verifier=f"rules/{item.answer_kind.value}",
        verifier_version=VERIFIER_VERSION,
    )
