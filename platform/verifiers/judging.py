"""One trace, one verdict: finds the answer span, applies the kind's rule and composes the score."""

from residency.platform.recipe import RewardConfig
from residency.platform.records import Item, PromptMode, Status, Verdict
from residency.platform.verifiers.answer_span import answer_span
from residency.platform.verifiers.composition import compose
from residency.platform.verifiers.finding import Finding
from residency.platform.verifiers.format_rule import format_fault
from residency.platform.verifiers.rules import VERIFIER_VERSION, judge_answer


def judge(item: Item, trace_id: str, text: str, mode: PromptMode, reward: RewardConfig) -> Verdict:
    """The verdict of our own rules on one completion; its score is composed by ``reward.weights``.

    A text without an answer is ``abstained``: accuracy 0, and the score is what the other parts give (the format's
    share). Raises DataError for an item that cannot be judged (``check_item``), never for a text.
    """
    fault = format_fault(text, mode)
    span = answer_span(text, mode)
    finding = Finding(None, "no answer span") if span is None else judge_answer(item, span)
    parts = {"format": 0.0 if fault else 1.0, "accuracy": finding.accuracy or 0.0, **finding.parts}
    score, parts, note = compose(parts, text, reward)
    shown = "no span" if span is None else f"span {span[:80]!r}"
    return Verdict(
        trace_id=trace_id,
        status=Status.ABSTAINED if finding.accuracy is None else Status.SCORED,
        score=score,
        parts=parts,
        evidence=f"{shown}; {finding.rule}; {'format ok' if fault is None else 'format: ' + fault}{note}",
        verifier=f"rules/{item.answer_kind.value}",
        verifier_version=VERIFIER_VERSION,
    )
