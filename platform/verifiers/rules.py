"""One answer span, one finding: the rule of each answer kind, and what an item must have to be judged at all."""

from typing import assert_never

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Item
from residency.platform.verifiers.box import judge_box
from residency.platform.verifiers.choice import judge_choice
from residency.platform.verifiers.evasion import SHORTEST, evasion
from residency.platform.verifiers.finding import Finding
from residency.platform.verifiers.normal_form import plain_text
from residency.platform.verifiers.number import judge_number
from residency.platform.verifiers.open_answer import judge_open
from residency.platform.verifiers.short import judge_short, medical_table
from residency.platform.verifiers.units import registry
from residency.platform.verifiers.yes_no import judge_yes_no

VERIFIER_VERSION = "2"
MAX_SPAN_CHARACTERS = 4096  # no answer that we judge is longer; keeps every rule's time bounded


def judge_answer(item: Item, span: str) -> Finding:
    """The kind's rule on one answer span; raises DataError where the item's own answer cannot be used."""
    if len(span) > MAX_SPAN_CHARACTERS:
        return Finding(0.0, f"an answer of {len(span)} characters, at most {MAX_SPAN_CHARACTERS}")
    finding = _judge(item, span)
    if finding.accuracy and len(span) >= SHORTEST and (reason := evasion(item, plain_text(span).lower())):
        # An open answer keeps its share of common words out of the score too: it was no answer.
        return Finding(None, reason)
    return finding


def _judge(item: Item, span: str) -> Finding:
    match item.answer_kind:
        case AnswerKind.CHOICE:
            return judge_choice(item, span)
        case AnswerKind.YES_NO:
            return judge_yes_no(item, span)
        case AnswerKind.SHORT:
            return judge_short(item, span)
        case AnswerKind.NUMBER:
            return judge_number(item, span)
        case AnswerKind.BOX:
            return judge_box(item, span)
        case AnswerKind.OPEN:
            return judge_open(item, span)
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
    if AnswerKind.SHORT in kinds:
        medical_table()


def check_item(item: Item) -> None:
    """Raises DataError where no verdict could be given on the item, whatever is answered."""
    judge_answer(item, item.answer)
