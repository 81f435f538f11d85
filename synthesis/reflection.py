"""Reflective examples: a sampled wrong trace, cut at its wrong claim, taken back in one voice, then a right one."""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from residency.platform.recipe import RewardConfig
from residency.platform.records import Example, Item, PromptMode, Target, Trace, short_hash
from residency.platform.verifiers.format_rule import without_end_token
from residency.platform.verifiers.judging import judge
from residency.synthesis.annotations_teacher import write_trace
from residency.synthesis.claims import CONCLUSION, THINK, WrongClaim, clause_end, first_wrong, is_spoken, parse_claims
from residency.synthesis.examples import make_example
from residency.synthesis.rejection import Routed
from residency.synthesis.strategies import STRATEGY_PHRASES, Strategy, StrategyPlan, verify
from residency.synthesis.voice import key_leak, second_voice
from residency.synthesis.wrong_answers import concluding_start, find_wrong, has_facts

RULES_ONLY = RewardConfig()


class Dropped(StrEnum):
    """Why a wrong trace became no reflective example."""

    NO_WRONG_CLAIM = "no wrong claim was found"
    UNCLEAR = "up to the wrong claim it is not made of claims"
    ONLY_ANSWER = "only the answer is wrong, the thinking is not"
    NO_RIGHT = "no right trace to go on with"
    NO_STRATEGY = "no strategy is allowed here"
    NOT_NAMED = "the error that is named is not in the first part"
    TOO_LONG = "too long"
    TOO_SHORT = "too short"
    LEAK = "gives the answer key away"
    SECOND_VOICE = "speaks with a second voice"
    LAST_ANSWER = "the last answer is not right"
    FALSE_CLAIM = "what follows the wrong part claims something false"
    BOUND = "the item has enough reflective examples"
    RATE = "left out by reflection.rate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """``max_tokens``: longest completion, in words, numbers and signs (about a student's tokens), tags as one each.

    ``min_taught``: shortest part behind the wrong one, counted alike. ``rate``: share of the items.
    """

    per_item: int = 2
    max_tokens: int = 96
    min_taught: int = 8
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One wrong trace: the example that it became, or why it did not; ``strategy`` None where none was chosen yet."""

    trace_id: str
    strategy: Strategy | None
    example: Example | None = None
    dropped: Dropped | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reflected:
    """What an item's wrong traces came to; ``num_fallbacks``: backtracking was due with nothing to go back to."""

    attempts: tuple[Attempt, ...] = ()
    num_fallbacks: int = 0

    @property
    def examples(self) -> tuple[Example, ...]:
        return tuple(attempt.example for attempt in self.attempts if attempt.example is not None)

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        return tuple(attempt.dropped for attempt in self.attempts if attempt.dropped is not None)


def length(completion: str) -> int:
    """Words, numbers and signs of a completion; about what a whole-word tokenizer makes of it."""
    return len(re.findall(r"<\s*/?\s*(?:think|answer)\s*>|\w+|[^\w\s]", completion))


def go_on(item: Item, wrong: WrongClaim, strategy: Strategy, right_text: str) -> str:
    """The right trace from ``<think>`` on; correction goes on from the corrected claim instead of starting again."""
    think = THINK.search(right_text)
    assert think is not None, "only traces in valid format are routed here"
    start = think.start("body")
    if strategy is Strategy.CORRECTION:
        start += corrected_start(item, wrong, think["body"])
    rest = right_text[start:].lstrip()
    return rest.removeprefix("and ") if strategy is Strategy.CORRECTION else rest


def corrected_start(item: Item, wrong: WrongClaim, body: str) -> int:
    """Where the right thinking goes on once this claim is corrected; 0 where it never comes to it."""
    if not has_facts(item):
        return concluding_start(body)
    claims = parse_claims(item.metadata["task"], body)
    if wrong.claim.fact == CONCLUSION:
        return next((claim.start for claim in claims if claim.fact == CONCLUSION), 0)
    return next((clause_end(body, claim, len(body)) for claim in claims if claim.fact == wrong.claim.fact), 0)


def wrong_part(text: str, wrong: WrongClaim) -> str:
    """The text from its beginning to the end of the wrong claim's clause, letter by letter."""
    think = THINK.search(text)
    assert think is not None, "only traces in valid format are routed here"
    return text[: clause_end(text, wrong.claim, think.end("body"))].rstrip()


def assemble(
    item: Item, wrong_text: str, wrong: WrongClaim, strategy: Strategy, right_text: str, rng: random.Random
) -> tuple[str, int]:
    """The completion and its ``loss_start``: ``completion[:loss_start]`` is the sampled text, letter by letter."""
    kept = wrong_part(wrong_text, wrong)
    verification, phrase = verify(item, wrong, rng), rng.choice(STRATEGY_PHRASES[strategy])
    return f"{kept} {verification} {phrase} {go_on(item, wrong, strategy, right_text)}", len(kept)


def is_named(first_part: str, wrong: WrongClaim) -> bool:
    """Whether the first part really says what is then taken back, in any spacing and case."""

    def plain(text: str) -> str:
        return "".join(text.split()).lower()

    return plain(wrong.claim.value) in plain(first_part)


def is_right(item: Item, completion: str) -> bool:
    """Whether the last answer is right, and the form valid, by the verifiers' rules."""
    parts = judge(item, "", completion, PromptMode.THINK, RULES_ONLY).parts
    return parts.get("accuracy") == 1.0 and parts.get("format") == 1.0


def flaw(
    item: Item, completion: str, loss_start: int, limits: Limits, wrong: WrongClaim | None = None
) -> Dropped | None:
    """What forbids to teach this; of several the first in the order of this function.

    Its length, an error that the first part does not hold, a leak, a second voice, its last answer, or a false claim
    in the taught part (where the item has facts to check claims by).
    """
    taught = completion[loss_start:]
    if length(completion) > limits.max_tokens:
        return Dropped.TOO_LONG
    if length(taught) < limits.min_taught:
        return Dropped.TOO_SHORT
    if wrong is not None and not is_named(completion[:loss_start], wrong):
        return Dropped.NOT_NAMED
    if key_leak(completion):
        return Dropped.LEAK
    if second_voice(completion):
        return Dropped.SECOND_VOICE
    if not is_right(item, completion):
        return Dropped.LAST_ANSWER
    return Dropped.FALSE_CLAIM if has_facts(item) and first_wrong(item, taught) else None


def is_chosen(item: Item, rate: float, seed: int) -> bool:
    """Whether this item is in the share ``rate`` of all; a higher rate keeps those of a lower one."""
    return int(short_hash("reflection rate", str(seed), item.id), 16) < rate * 2**64


def reflect(routed: Iterable[Routed], shares: Mapping[str, float], limits: Limits, seed: int) -> list[Reflected]:
    """What each item's wrong traces come to, in the order of the items; deterministic by seed."""
    plan = StrategyPlan(shares)
    return [reflect_item(one, plan, limits, seed) for one in routed]


def reflect_item(routed: Routed, plan: StrategyPlan, limits: Limits, seed: int) -> Reflected:
    """At most ``limits.per_item`` reflective examples of one item."""
    before = plan.num_fallbacks
    chosen = is_chosen(routed.item, limits.rate, seed)
    attempts: list[Attempt] = []
    for earlier, trace in enumerate(routed.wrong):
        full = sum(attempt.example is not None for attempt in attempts) >= limits.per_item
        if full or not chosen:
            why = Dropped.BOUND if chosen else Dropped.RATE
            attempts.append(Attempt(trace_id=trace.id, strategy=None, dropped=why))
        else:
            attempts.append(reflect_once(routed, trace, earlier > 0, plan, limits, seed))
    return Reflected(attempts=tuple(attempts), num_fallbacks=plan.num_fallbacks - before)


def reflect_once(
    routed: Routed, trace: Trace, has_earlier_wrong: bool, plan: StrategyPlan, limits: Limits, seed: int
) -> Attempt:
    """One wrong trace → a reflective example, or the reason why not."""
    item, text = routed.item, without_end_token(trace.text)
    wrong = find_wrong(item, text)
    why = Dropped.NO_WRONG_CLAIM if wrong is None else unfit(item, trace, text, wrong)
    if wrong is None or why is not None:
        return Attempt(trace_id=trace.id, strategy=None, dropped=why)
    error_kind = (
        f"{item.metadata['task']}.{wrong.claim.fact}" if has_facts(item) else f"{item.answer_kind}.{CONCLUSION}"
    )
    strategy = plan.next(error_kind, has_earlier_wrong)
    if strategy is None:
        return Attempt(trace_id=trace.id, strategy=None, dropped=Dropped.NO_STRATEGY)
    # by what was said: a trace of the same tokens has another id after a restart
    rng = random.Random(f"reflection/{seed}/{item.id}/{trace.sample_index}/{trace.text}")
    right = choose_right(routed, strategy, rng, seed)
    if right is None:
        return Attempt(trace_id=trace.id, strategy=strategy, dropped=Dropped.NO_RIGHT)
    completion, loss_start = assemble(item, text, wrong, strategy, without_end_token(right.text), rng)
    if problem := flaw(item, completion, loss_start, limits, wrong):
        return Attempt(trace_id=trace.id, strategy=strategy, dropped=problem)
    plan.deal(error_kind, strategy)
    example = make_example(
        item,
        Target.REFLECTIVE,
        completion,
        from_traces=(trace.id, right.id),
        pattern=strategy.value,
        error_kind=error_kind,
        loss_start=loss_start,
    )
    return Attempt(trace_id=trace.id, strategy=strategy, example=example)


def unfit(item: Item, trace: Trace, text: str, wrong: WrongClaim) -> Dropped | None:
    """Why this wrong trace cannot be a first part, whatever would follow."""
    if wrong.in_answer:
        return Dropped.ONLY_ANSWER
    is_checked = trace.role == "policy" and has_facts(item)
    if is_checked and not is_spoken(item.metadata["task"], wrong_part(text, wrong).partition(">")[2]):
        return Dropped.UNCLEAR
    return None


def choose_right(routed: Routed, strategy: Strategy, rng: random.Random, seed: int) -> Trace | None:
    """A really sampled right trace where there is one, else the annotations' (in another order for a new path)."""
    if routed.right:
        return rng.choice(routed.right)
    if not has_facts(routed.item):
        return None
    return write_trace(routed.item, seed, other_order=strategy is Strategy.NEW_PATH)


def count_pairs(examples: Sequence[Example]) -> int:
    """Distinct (error kind, strategy) pairs."""
    return len({(example.error_kind, example.pattern) for example in examples if example.target is Target.REFLECTIVE})
