"""How a wrong turn is taken back: a verification that names the wrong claim, and a strategy that goes on from it."""

import random
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from residency.platform.records import AnswerKind, Item
from residency.synthesis.claims import CONCLUSION, WrongClaim
from residency.synthesis.facts import TASKS


class Strategy(StrEnum):
    VERIFICATION = "verification"
    BACKTRACKING = "backtracking"
    NEW_PATH = "new_path"
    CORRECTION = "correction"


STRATEGY_PHRASES: Mapping[Strategy, tuple[str, ...]] = {  # at most six words: a student pays for each
    Strategy.VERIFICATION: ("let me check each point.", "i check it point by point."),
    Strategy.BACKTRACKING: ("go back to the start.", "i start again from there."),
    Strategy.NEW_PATH: ("try another way.", "look at it another way."),
    Strategy.CORRECTION: ("so i fix that.", "i correct this point."),
}
FACT_VERIFICATIONS = (
    "wait, not {wrong}: {right}.",
    "look again: not {wrong}, {right}.",
    "no, {wrong} is wrong: {right}.",
)
CONCLUSION_VERIFICATIONS = ("wait, {wrong} does not fit what i {sense}.", "no, {wrong} is not what i {sense}.")
MOST_WORDS_QUOTED = 3  # nor boxes, nor yes and no: "no, no is not what i see" says nothing


def phrases() -> list[str]:
    """Every fixed text of this file, for the vocabulary of a tokenizer."""
    slots = {"wrong": "that", "right": "", "sense": "see read"}
    templates = (*FACT_VERIFICATIONS, *CONCLUSION_VERIFICATIONS)
    return [phrase for pair in STRATEGY_PHRASES.values() for phrase in pair] + [t.format(**slots) for t in templates]


def verify(item: Item, wrong: WrongClaim, rng: random.Random) -> str:
    """At most twelve words, in the thinker's own voice: which claim is wrong and what is seen instead.

    A wrong conclusion after right facts is only said not to fit them: the new reasoning comes to the answer itself.
    """
    said = wrong.claim.value
    if wrong.claim.fact == CONCLUSION:
        plain = item.answer_kind not in (AnswerKind.YES_NO, AnswerKind.BOX) and len(said.split()) <= MOST_WORDS_QUOTED
        quoted = said if plain else "that"
        return rng.choice(CONCLUSION_VERIFICATIONS).format(wrong=quoted, sense="see" if item.media else "read")
    fact = next(fact for fact in TASKS[item.metadata["task"]].facts if fact.name == wrong.claim.fact)
    return rng.choice(FACT_VERIFICATIONS).format(wrong=said, right=fact.say(wrong.right))


class StrategyPlan:
    """Deals strategies by their shares, within each error kind, so that every kind meets every strategy in time.

    Backtracking needs somewhere to go back to: where it is due but not allowed (the item's first wrong trace) the next
    due strategy takes its place, ``num_fallbacks`` counts it, and backtracking stays due.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = {Strategy(name): share for name, share in shares.items() if share > 0}
        self.dealt: dict[str, Counter[Strategy]] = {}
        self.total: Counter[Strategy] = Counter()
        self.num_fallbacks = 0

    def due(self, error_kind: str) -> list[Strategy]:
        """Strategies by what they lack of their share within the error kind, then over all."""
        dealt = self.dealt.get(error_kind, Counter())

        def lack(strategy: Strategy) -> tuple[float, float]:
            share = self.shares[strategy]
            return (
                share * (dealt.total() + 1) - dealt[strategy],
                share * (self.total.total() + 1) - self.total[strategy],
            )

        return sorted(self.shares, key=lack, reverse=True)

    def next(self, error_kind: str, has_earlier_wrong: bool) -> Strategy | None:
        """The strategy that is most due; None where only backtracking is in the shares and it is not allowed."""
        order = self.due(error_kind)
        if order[0] is Strategy.BACKTRACKING and not has_earlier_wrong:
            self.num_fallbacks += 1
        return next((s for s in order if has_earlier_wrong or s is not Strategy.BACKTRACKING), None)

    def deal(self, error_kind: str, strategy: Strategy) -> None:
        """Count a strategy that was really used."""
        self.dealt.setdefault(error_kind, Counter())[strategy] += 1
        self.total[strategy] += 1
