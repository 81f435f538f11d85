"""The synthesizer as a Ray actor: tables go in by reference and come out as tables."""

from typing import Any

import pyarrow as pa
import ray

from residency.actors.synthesizer import SynthesizerActor
from residency.platform.arrow_tables import from_table, to_table
from residency.platform.recipe import MixtureConfig, RewardConfig, SynthesisConfig
from residency.platform.records import (
    AnswerKind,
    Example,
    Family,
    Item,
    PromptMode,
    Split,
    Target,
    Trace,
    Verdict,
)
from residency.platform.verifiers.judging import judge

DEADLINE_SECONDS = 60


def make_item(number: int) -> Item:
    return Item(
        id=f"item-{number}",
        content_key=f"key-{number}",
        source="test",
        split=Split.TRAIN,
        licence="MIT",
        cluster="text",
        question="one tablet has 2 mg. how many mg are 3 tablets?",
        answer="6 mg",
        answer_kind=AnswerKind.NUMBER,
        family=Family.TEXTUAL_REASONING,
        metadata={"task": "dose_total", "facts": {"strength": "2", "tablets": "3"}},
    )


def sample(item: Item, index: int, tablets: str, answer: str) -> Trace:
    reasoning = f"the tablets are {tablets}. one tablet has 2 mg. so the answer is {answer}."
    return Trace(
        id=f"{item.id}/{index}",
        item_id=item.id,
        role="policy",
        model="warm-up",
        prompt_mode=PromptMode.THINK,
        prompt_hash="hash",
        seed=0,
        sample_index=index,
        text=f"<think>{reasoning}</think><answer>{answer}</answer>",
        finish_reason="stop",
    )


def test_tables_in_tables_out(ray_cluster: Any) -> None:
    items = [make_item(number) for number in range(6)]
    traces = [trace for item in items for trace in (sample(item, 0, "4", "8 mg"), sample(item, 1, "3", "6 mg"))]
    by_id = {item.id: item for item in items}
    verdicts = [judge(by_id[t.item_id], t.id, t.text, PromptMode.THINK, RewardConfig()) for t in traces]
    actor: Any = ray.remote(num_cpus=0.1)(SynthesizerActor).options(**ray_cluster.on(ray_cluster.right)).remote()
    try:
        item_table = ray.put(to_table(items, Item))
        rationales = actor.write_rationales.remote(item_table, 0)
        direct = actor.write_direct.remote(item_table)
        synthesized, outcomes = actor.synthesize.options(num_returns=2).remote(
            item_table, ray.put(to_table(traces, Trace)), ray.put(to_table(verdicts, Verdict)), SynthesisConfig(), 96, 0
        )
        mixture, report = actor.mix.options(num_returns=2).remote(
            MixtureConfig(), 0, None, rationales, direct, synthesized
        )
        table, counts, told, health = ray.get(
            [mixture, outcomes, report, actor.health.remote()], timeout=DEADLINE_SECONDS
        )
    finally:
        ray.kill(actor)
    assert isinstance(table, pa.Table)
    examples = from_table(table, Example)
    assert told.got_targets == {"direct": 6, "cot": 12, "reflective": 6}
    assert told.total == len(examples) == 24
    assert counts.column("outcome").to_pylist() == ["solved"] * 6
    reflective = next(example for example in examples if example.target is Target.REFLECTIVE)
    assert reflective.error_kind == "dose_total.tablets"
    wrong_part = reflective.messages[1]["content"][: reflective.loss_start]
    assert wrong_part == "<think>the tablets are 4."
    assert health["uptime_seconds"] > 0
