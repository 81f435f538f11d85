"""Rejection sampling: an item's judged traces are routed to CoT examples, to reflection, or away with a reason."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from residency.platform.records import Example, Item, Status, Target, Trace, Verdict
from residency.platform.verifiers.format_rule import without_end_token
from residency.synthesis.claims import THINK, first_wrong, is_spoken
from residency.synthesis.difficulty import PassCount, count_passes
from residency.synthesis.examples import make_example
from residency.synthesis.wrong_answers import has_facts


class Outcome(StrEnum):
    SOLVED = "solved"  # at least one right trace whose claims hold
    UNFAITHFUL = "unfaithful"  # right only by false claims, by babble, or in a form that routing did not keep
    UNSOLVED = "unsolved"  # judged, never right: the next teacher's turn
    UNJUDGED = "unjudged"  # no verdict but our own faults


@dataclass(frozen=True, kw_only=True, slots=True)
class Routed:
    """An item's traces by what they are good for, in order of ``sample_index``, each text once.

    ``right``: right answer, valid format, no false claim. ``wrong``: really answered, in valid format, and wrong.
    ``unfaithful``: right by a false claim, by a student's words that are no claims, or not kept by routing (the
    verdict's part ``kept``); on disk, never taught.
    """

    item: Item
    passes: PassCount
    outcome: Outcome
    right: tuple[Trace, ...] = ()
    wrong: tuple[Trace, ...] = ()
    unfaithful: tuple[Trace, ...] = field(default=())


def distinct(traces: Iterable[Trace]) -> tuple[Trace, ...]:
    """The first trace of each text, white space apart."""
    first: dict[str, Trace] = {}
    for trace in sorted(traces, key=lambda trace: (trace.sample_index, trace.id)):
        first.setdefault("".join(trace.text.split()), trace)
    return tuple(first.values())


def unfaithful(item: Item, trace_text: str, is_student: bool) -> str:
    """Why a right answer must not be taught; empty where nothing speaks against it, or no facts are there to tell by.

    A student's thinking must be made of claims only; a teacher model may use words of its own.
    """
    if not has_facts(item):
        return ""
    if wrong := first_wrong(item, trace_text):
        return f"claims {wrong.claim.fact} {wrong.claim.value!r}, which is {wrong.right!r}"
    think = THINK.search(trace_text)
    if is_student and (think is None or not is_spoken(item.metadata["task"], think["body"])):
        return "says words between its claims that nobody can check"
    return ""


def route(item: Item, traces: Sequence[Trace], verdicts: Iterable[Verdict]) -> Routed:
    """Route the traces of one item by their verdicts; traces without a verdict count for nothing."""
    by_trace = {verdict.trace_id: verdict for verdict in verdicts}
    right: list[Trace] = []
    wrong: list[Trace] = []
    spoiled: list[Trace] = []
    for trace in traces:
        verdict = by_trace.get(trace.id)
        # An abstention says nothing that could be taught or taken back; an error or a time-out is our own fault.
        if verdict is None or verdict.status is not Status.SCORED or verdict.parts.get("format", 0.0) < 1:
            continue
        if verdict.parts.get("accuracy", 0.0) < 1:
            wrong.append(trace)
        elif verdict.parts.get("kept", 1.0) == 1.0 and not unfaithful(item, trace.text, trace.role == "policy"):
            right.append(trace)
        else:
            spoiled.append(trace)
    counted = count_passes(traces, by_trace.values())
    passes = counted[0] if counted else PassCount(item_id=item.id, right=0, samples=0)
    if right:
        outcome = Outcome.SOLVED
    elif spoiled:
        outcome = Outcome.UNFAITHFUL
    else:
        outcome = Outcome.UNSOLVED if passes.samples else Outcome.UNJUDGED
    return Routed(
        item=item,
        passes=passes,
        outcome=outcome,
        right=distinct(right),
        wrong=distinct(wrong),
        unfaithful=distinct(spoiled),
    )


def route_all(items: Iterable[Item], traces: Iterable[Trace], verdicts: Iterable[Verdict]) -> list[Routed]:
    """Route every item that has traces, in the order of the items."""
    by_item: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        by_item[trace.item_id].append(trace)
    by_trace = {verdict.trace_id: verdict for verdict in verdicts}
    return [
        route(item, own, [by_trace[trace.id] for trace in own if trace.id in by_trace])
        for item in items
        if (own := by_item.get(item.id))
    ]


def cot_examples(routed: Routed, at_most: int) -> list[Example]:
    """Right traces as CoT examples, distinct texts, at most so many an item (or easy items would fill the mixture)."""
    return [
        make_example(routed.item, Target.COT, without_end_token(trace.text), from_traces=(trace.id,))
        for trace in routed.right[:at_most]
    ]
