"""Reflective examples: a sampled wrong trace, cut at its wrong claim, taken back in one voice, then a right one."""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from residency.platform.recipe import RewardConfig
from residency.platform.records import Example, Item, PromptMode, Target, Trace
from residency.platform.verifiers.format_rule import without_end_token
from residency.platform.verifiers.judging import judge
from residency.synthesis.annotations_teacher import write_trace
from residency.synthesis.claims import CONCLUSION, THINK, WrongClaim, clause_end, first_wrong, is_spoken, parse_claims
from residency.synthesis.examples import make_example
from residency.synthesis.rejection import Routed
from residency.synthesis.strategies import STRATEGY_PHRASES, Strategy, StrategyPlan, verify

# What only someone with the answer key could say. The example must be one voice.
LEAKS = re.compile(
    r"\b(reference|annotat\w*|ground[ -]truth|gold|labell?ed|answer key|(correct|given) answer|solution says)\b",
    re.IGNORECASE,
)
RULES_ONLY = RewardConfig()


class Dropped(StrEnum):
    """Why a wrong trace became no reflective example."""

    NO_WRONG_CLAIM = "no wrong claim was found"
    UNCLEAR = "up to the wrong claim it is not made of claims"
    ONLY_ANSWER = "only the answer contradicts the annotations, the thinking does not"
    NO_STRATEGY = "no strategy is allowed here"
    TOO_LONG = "too long"
    LEAK = "gives the answer key away"
    LAST_ANSWER = "the last answer is not right"
    FALSE_CLAIM = "what follows the wrong part claims something false"
    BOUND = "the item has enough reflective examples"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """``max_tokens``: longest completion, in words, numbers and signs (about a student's tokens), tags as one each."""

    per_item: int = 2
    max_tokens: int = 96


@dataclass(frozen=True, kw_only=True, slots=True)
class Reflected:
    """What an item's wrong traces came to; ``num_fallbacks``: backtracking was due with nothing to go back to."""

    examples: tuple[Example, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    num_fallbacks: int = 0


def length(completion: str) -> int:
    """Words, numbers and signs of a completion; about what a whole-word tokenizer makes of it."""
    return len(re.findall(r"<\s*/?\s*(?:think|answer)\s*>|\w+|[^\w\s]", completion))


def go_on(item: Item, wrong: WrongClaim, strategy: Strategy, right_text: str) -> str:
    """The right trace from ``<think>`` on; correction goes on from the corrected claim instead of starting again."""
    think = THINK.search(right_text)
    assert think is not None, "only traces in valid format are routed here"
    start = think.start("body")
    if strategy is Strategy.CORRECTION:
        body = think["body"]
        claims = parse_claims(item.metadata["task"], body)
        if wrong.claim.fact == CONCLUSION:
            start += next((claim.start for claim in claims if claim.fact == CONCLUSION), 0)
        else:
            start += next((clause_end(body, claim, len(body)) for claim in claims if claim.fact == wrong.claim.fact), 0)
    rest = right_text[start:].lstrip()
    return rest.removeprefix("and ") if strategy is Strategy.CORRECTION else rest


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


def flaw(item: Item, completion: str, loss_start: int, limits: Limits) -> Dropped | None:
    """What forbids to teach this: its length, a leak, its last answer or a false claim in the taught part."""
    if length(completion) > limits.max_tokens:
        return Dropped.TOO_LONG
    if LEAKS.search(completion):
        return Dropped.LEAK
    verdict = judge(item, "", completion, PromptMode.THINK, RULES_ONLY)
    if verdict.parts.get("accuracy") != 1.0 or verdict.parts.get("format") != 1.0:
        return Dropped.LAST_ANSWER
    return Dropped.FALSE_CLAIM if first_wrong(item, completion[loss_start:]) else None


def reflect(routed: Iterable[Routed], shares: Mapping[str, float], limits: Limits, seed: int) -> list[Reflected]:
    """What each item's wrong traces come to, in the order of the items; deterministic by seed."""
    plan = StrategyPlan(shares)
    return [reflect_item(one, plan, limits, seed) for one in routed]


def reflect_item(routed: Routed, plan: StrategyPlan, limits: Limits, seed: int) -> Reflected:
    """At most ``limits.per_item`` reflective examples of one item."""
    before = plan.num_fallbacks
    examples: list[Example] = []
    dropped: list[Dropped] = []
    for earlier, trace in enumerate(routed.wrong):
        full = len(examples) >= limits.per_item
        result = Dropped.BOUND if full else reflect_once(routed, trace, earlier > 0, plan, limits, seed)
        if isinstance(result, Dropped):
            dropped.append(result)
        else:
            examples.append(result)
    return Reflected(examples=tuple(examples), dropped=tuple(dropped), num_fallbacks=plan.num_fallbacks - before)


def reflect_once(
    routed: Routed, trace: Trace, has_earlier_wrong: bool, plan: StrategyPlan, limits: Limits, seed: int
) -> Example | Dropped:
    """One wrong trace → a reflective example, or the reason why not."""
    item, text = routed.item, without_end_token(trace.text)
    wrong = first_wrong(item, text)
    if wrong is None:
        return Dropped.NO_WRONG_CLAIM
    if wrong.in_answer:
        return Dropped.ONLY_ANSWER
    if trace.role == "policy" and not is_spoken(item.metadata["task"], wrong_part(text, wrong).partition(">")[2]):
        return Dropped.UNCLEAR
    error_kind = f"{item.metadata['task']}.{wrong.claim.fact}"
    strategy = plan.next(error_kind, has_earlier_wrong)
    if strategy is None:
        return Dropped.NO_STRATEGY
    # by what was said: a trace of the same tokens has another id after a restart
    rng = random.Random(f"reflection/{seed}/{item.id}/{trace.sample_index}/{trace.text}")
    right = choose_right(routed, strategy, rng, seed)
    completion, loss_start = assemble(item, text, wrong, strategy, without_end_token(right.text), rng)
    if problem := flaw(item, completion, loss_start, limits):
        return problem
    plan.deal(error_kind, strategy)
    return make_example(
        item,
        Target.REFLECTIVE,
        completion,
        from_traces=(trace.id, right.id),
        pattern=strategy.value,
        error_kind=error_kind,
        loss_start=loss_start,
    )


def choose_right(routed: Routed, strategy: Strategy, rng: random.Random, seed: int) -> Trace:
    """A really sampled right trace where there is one, else the annotations' (in another order for a new path)."""
    if routed.right:
        return rng.choice(routed.right)
    return write_trace(routed.item, seed, other_order=strategy is Strategy.NEW_PATH)


def count_pairs(examples: Sequence[Example]) -> int:
    """Distinct (error kind, strategy) pairs."""
    return len({(example.error_kind, example.pattern) for example in examples if example.target is Target.REFLECTIVE})
