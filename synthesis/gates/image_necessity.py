"""The image-necessity gate: what a model solves with a blank picture does not teach it to look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

from residency.platform.records import AnswerKind, Item
from residency.synthesis.gates.decision import Gate, GateDecision, marked, passed

GATE = "image_necessity"
SOLVED = "solved_without_image"
BY_LUCK = 0.05  # a guesser solves it this often at most, or the mark is not given


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of the same model on the same question: right or wrong, a sample each, with the true and with a blank picture."""

    true: Sequence[bool]
    blank: Sequence[bool]


def guess_rate(item: Item) -> float:
    """How often a guesser is right."""
    if item.answer_kind is AnswerKind.YES_NO:
        return 0.5
    return 1 / len(item.options) if item.options else 0.0


def chance_of(right: int, samples: int, rate: float) -> float:
    """The probability that a guesser has at least so many right (binomial tail)."""
    return sum(comb(samples, k) * rate**k * (1 - rate) ** (samples - k) for k in range(right, samples + 1))


def necessity_decision(item: Item, outcomes: Outcomes) -> GateDecision:
    """Marks an item whose blank samples are right in more than half and more often than by guessing.

    Never refuses: such an item is a good text question, only none about the picture.
    """
    if not item.media or not outcomes.blank:
        return passed(GATE, "no picture" if not item.media else "not asked with a blank picture")
    right, samples = sum(outcomes.blank), len(outcomes.blank)
    luck = chance_of(right, samples, guess_rate(item))
    evidence = f"blank {right}/{samples}, true {sum(outcomes.true)}/{len(outcomes.true)}, by guessing {luck:.3f}"
    return marked(GATE, SOLVED, evidence) if 2 * right > samples and luck <= BY_LUCK else passed(GATE, evidence)


def image_necessity_gate(outcomes_of: Callable[[Item], Outcomes]) -> Gate:
    """A gate over outcomes that were sampled before."""
    return lambda item: necessity_decision(item, outcomes_of(item))
