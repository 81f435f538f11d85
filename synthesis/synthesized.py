"""A synthesis run: judged traces in, examples and one outcome row an item out, and the counts of the summary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from residency.platform.recipe import SynthesisConfig
from residency.platform.records import Example, Item, Target, Trace, Verdict
from residency.synthesis.invented import invent_wrong
from residency.synthesis.reflection import Limits, Reflected, count_pairs, reflect
from residency.synthesis.rejection import Routed, cot_examples, route_all
from residency.synthesis.wrong_answers import has_facts

COT_PER_ITEM = 2  # distinct right traces kept of an item, or easy items would fill the mixture

NO_STRATEGY_YET = "before a strategy"  # refused before one was chosen
ATTEMPT = pa.struct([("trace_id", pa.string()), ("strategy", pa.string()), ("dropped", pa.string())])

OUTCOMES_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("outcome", pa.string()),  # rejection.Outcome
        ("right", pa.int32()),  # pass count, by the answer alone
        ("samples", pa.int32()),
        ("wrong", pa.int32()),  # distinct texts in valid format
        ("unfaithful", pa.int32()),
        ("cot", pa.int32()),  # examples made
        ("reflective", pa.int32()),
        ("dropped", pa.list_(pa.string())),  # reflection.Dropped, one each wrong trace that came to nothing
        ("fallbacks", pa.int32()),
        ("attempts", pa.list_(ATTEMPT)),  # one each wrong trace
    ]
)


def outcome_row(routed: Routed, num_cot: int, reflected: Reflected) -> dict[str, Any]:
    return {
        "item_id": routed.item.id,
        "outcome": routed.outcome.value,
        "right": routed.passes.right,
        "samples": routed.passes.samples,
        "wrong": len(routed.wrong),
        "unfaithful": len(routed.unfaithful),
        "cot": num_cot,
        "reflective": len(reflected.examples),
        "dropped": [reason.value for reason in reflected.dropped],
        "fallbacks": reflected.num_fallbacks,
        "attempts": [
            {
                "trace_id": attempt.trace_id,
                "strategy": attempt.strategy.value if attempt.strategy else NO_STRATEGY_YET,
                "dropped": attempt.dropped.value if attempt.dropped else None,
            }
            for attempt in reflected.attempts
        ],
    }


def sources_without_wrong(routed: Sequence[Routed]) -> set[str]:
    """Sources in which no item has a wrong trace: there reflection has nothing to stand on."""
    return {one.item.source for one in routed} - {one.item.source for one in routed if one.wrong}


def with_templates(routed: Sequence[Routed], seed: int) -> list[Routed]:
    """The items of such sources with a wrong trace that was written by template, where they have facts."""
    bare = sources_without_wrong(routed)
    invented = [
        invent_wrong(one.item, seed) if one.item.source in bare and has_facts(one.item) else None for one in routed
    ]
    return [replace(one, wrong=(wrong,)) if wrong else one for one, wrong in zip(routed, invented, strict=True)]


def synthesize(
    items: Sequence[Item],
    traces: Sequence[Trace],
    verdicts: Sequence[Verdict],
    config: SynthesisConfig,
    max_tokens: int,
    seed: int,
) -> tuple[list[Example], pa.Table]:
    """CoT and reflective examples, and the outcomes table (``OUTCOMES_SCHEMA``, one row an item that has traces).

    ``max_tokens`` bounds a reflective completion (about a student's tokens).
    """
    routed = route_all(items, traces, verdicts)
    shares: dict[str, float] = {**config.strategies}
    limits = Limits(per_item=config.reflection.per_item, max_tokens=max_tokens, rate=config.reflection.rate)
    wrong = with_templates(routed, seed) if config.reflection.templates else routed
    reflected = reflect(wrong, shares, limits, seed)
    examples: list[Example] = []
    rows = []
    for one, reflections in zip(routed, reflected, strict=True):
        kept = cot_examples(one, COT_PER_ITEM)
        examples += [*kept, *reflections.examples]
        rows.append(outcome_row(one, len(kept), reflections))
    return examples, pa.Table.from_pylist(rows, schema=OUTCOMES_SCHEMA)


def yield_by_strategy(outcomes: pa.Table) -> dict[str, dict[str, int]]:
    """Strategy → candidates, kept, and refused by reason."""
    table: dict[str, Counter[str]] = {}
    for row in outcomes.column("attempts").to_pylist():
        for attempt in row:
            counts = table.setdefault(attempt["strategy"], Counter(candidates=0, kept=0))
            counts["candidates"] += 1
            counts["kept" if attempt["dropped"] is None else f"refused: {attempt['dropped']}"] += 1
    return {strategy: dict(table[strategy]) for strategy in sorted(table)}


def summarize(examples: Sequence[Example], outcomes: pa.Table) -> dict[str, Any]:
    """``summary.json``'s ``synthesis``: counts by outcome, target, strategy and reason, and the distinct pairs."""
    reasons = Counter(reason for row in outcomes.column("dropped").to_pylist() for reason in row)
    return {
        "outcomes": dict(Counter(outcomes.column("outcome").to_pylist())),
        "samples": sum(outcomes.column("samples").to_pylist()),
        "right": sum(outcomes.column("right").to_pylist()),
        "unfaithful": sum(outcomes.column("unfaithful").to_pylist()),
        "targets": dict(Counter(example.target.value for example in examples)),
        "strategies": dict(Counter(e.pattern for e in examples if e.target is Target.REFLECTIVE)),
        "error_strategy_pairs": count_pairs(examples),
        "backtracking_fallbacks": sum(outcomes.column("fallbacks").to_pylist()),
        "dropped": dict(reasons),
        "reflection": yield_by_strategy(outcomes),
    }
