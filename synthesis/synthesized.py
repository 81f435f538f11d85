"""A synthesis run: judged traces in, examples and one outcome row an item out, and the counts of the summary."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from residency.platform.recipe import SynthesisConfig
from residency.platform.records import Example, Item, Target, Trace, Verdict
from residency.synthesis.reflection import Limits, Reflected, count_pairs, reflect
from residency.synthesis.rejection import Routed, cot_examples, route_all

COT_PER_ITEM = 2  # distinct right traces kept of an item, or easy items would fill the mixture

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
    }


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
    reflected = reflect(routed, shares, Limits(max_tokens=max_tokens), seed)
    examples: list[Example] = []
    rows = []
    for one, reflections in zip(routed, reflected, strict=True):
        kept = cot_examples(one, COT_PER_ITEM)
        examples += [*kept, *reflections.examples]
        rows.append(outcome_row(one, len(kept), reflections))
    return examples, pa.Table.from_pylist(rows, schema=OUTCOMES_SCHEMA)


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
    }
