"""One trace, one verdict: finds the answer span, applies the kind's rule and composes the score."""

from typing import assert_never

from residency.platform.errors import DataError
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Item, PromptMode, Status, Verdict
from residency.platform.verifiers.answer_span import answer_span
from residency.platform.verifiers.box import judge_box
from residency.platform.verifiers.choice import judge_choice
from residency.platform.verifiers.finding import Finding
from residency.platform.verifiers.format_rule import format_fault
from residency.platform.verifiers.number import judge_number, registry
from residency.platform.verifiers.open_answer import judge_open
from residency.platform.verifiers.short import judge_short
from residency.platform.verifiers.yes_no import judge_yes_no

VERIFIER_VERSION = "1"
MAX_SPAN_CHARACTERS = 4096  # no answer that we judge is longer; keeps every rule's time bounded


def judge_answer(item: Item, span: str) -> Finding:
    """The kind's rule on one answer span; raises DataError where the item's own answer cannot be used."""
    if len(span) > MAX_SPAN_CHARACTERS:
        return Finding(0.0, f"an answer of {len(span)} characters, at most {MAX_SPAN_CHARACTERS}")
    match item.answer_kind:
        case AnswerKind.CHOICE:
            return judge_choice(item.answer, item.options, span)
        case AnswerKind.YES_NO:
            return judge_yes_no(item.answer, item.question, span)
        case AnswerKind.SHORT:
            return judge_short(item.answer, item.metadata.get("synonyms", ()), span)
        case AnswerKind.NUMBER:
            return judge_number(item.answer, item.metadata.get("tolerance"), span)
        case AnswerKind.BOX:
            return judge_box(item.answer, span)
        case AnswerKind.OPEN:
            return judge_open(item.answer, span)
        case AnswerKind.REPORT:
            raise DataError(
                f"item {item.id} has the answer kind report",
                "a kind with a verifier",
                "leave such items out: the verifier of reports does not exist yet",
            )
    assert_never(item.answer_kind)


def load_libraries(kinds: set[AnswerKind]) -> None:
    """Import what some kinds need late (seconds on a busy machine), so that no sample's time limit pays for it."""
    if AnswerKind.NUMBER in kinds:
        registry()
    if AnswerKind.BOX in kinds:
        import scipy.optimize  # noqa: F401


def check_item(item: Item) -> None:
    """Raises DataError where no verdict could be given on the item, whatever is answered."""
    judge_answer(item, item.answer)


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
