"""Synthesis and difficulty: really sampled traces, judged by rules, become examples, pass counts and RL's prompts."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import polars as pl
import pyarrow as pa

from residency.platform.arrow_tables import from_table, write_parquet
from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.asking import (
    TEACHERS,
    ask_annotations,
    ask_for_wrong,
    ask_teachers,
    sampling_teachers,
    solved_items,
    tables_of,
)
from residency.platform.cli.stages.sampling import sample
from residency.platform.cli.stages.trace_parts import write_verdict_parts
from residency.platform.records import Example, Item, PromptMode, Split, Status, Trace, Verdict
from residency.platform.run_folder import write_whole
from residency.platform.sampling import SamplingConfig
from residency.synthesis.difficulty import PassCount, choose_prompts, count_passes
from residency.synthesis.lineage.pool_file import read_edits, write_pool
from residency.synthesis.mixture import modalities_table
from residency.synthesis.pipeline.ledger import count_outcomes
from residency.synthesis.review.waiting import queued, read_decisions, released
from residency.synthesis.synthesized import summarize
from residency.synthesis.wrong_answers import has_facts


async def synthesize_stage(crew: Crew) -> None:
    """Teachers first, then examples by target, the review queue, and the mixture."""
    recipe = crew.recipe
    train = list(crew.dataset.split(Split.TRAIN))
    asked = train[: recipe.synthesis.items] if recipe.synthesis.items else train
    pools = [await crew.synthesizer_call("write_direct", crew.items_table(train))]
    counts: dict[str, Any] = {}
    told = set[str]()
    if sampling_teachers(crew):
        folder = await ask_teachers(crew, asked)
        told = solved_items(folder)
        traces, verdicts = tables_of(folder)
        if bare := items_without_wrong(crew, asked, traces, verdicts):
            more_traces, more_verdicts = wrong_only(*tables_of(await ask_for_wrong(crew, bare)))
            traces, verdicts = pa.concat_tables([traces, more_traces]), pa.concat_tables([verdicts, more_verdicts])
        write_verdict_parts(crew.run)
        examples, counts = await make_examples(crew, asked, traces, verdicts)
        counts |= {"teachers": count_outcomes(folder), "dead_letters": len(crew.queue.dead_letters(f"{TEACHERS}/"))}
        pools.append(examples)
    if untold := [item for item in train if item.id not in told and has_facts(item) and annotations_write(crew)]:
        rationales, _ = right_only(*tables_of(await ask_annotations(crew, untold)))
        pools.append(await crew.synthesizer_call("write_rationales", crew.items_table(untold), crew.seed, rationales))
    await write_mixture(crew, train, pools, counts)


def annotations_write(crew: Crew) -> bool:
    """Whether items of which no sampled trace is taught are told in the words of their annotations."""
    return any(teacher.kind == "annotations" for teacher in crew.recipe.synthesis.teachers)


def items_without_wrong(crew: Crew, asked: Sequence[Item], traces: pa.Table, verdicts: pa.Table) -> list[Item]:
    """The items of sources in which nobody was ever wrong, where reflective examples are wanted."""
    recipe = crew.recipe
    if not recipe.mixture.targets.get("reflective") or not recipe.synthesis.reflection.rate:
        return []
    wrong_traces, _ = wrong_only(traces, verdicts)
    erred = set(wrong_traces.column("item_id").to_pylist())
    sources = {item.source for item in asked if item.id in erred}
    return [item for item in asked if item.source not in sources]


def wrong_only(traces: pa.Table, verdicts: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Judged wrong answers, in valid format."""
    judged = from_table(verdicts, Verdict)
    rows = [v.status is Status.SCORED and (v.parts["accuracy"], v.parts["format"]) == (0.0, 1.0) for v in judged]
    return traces.filter(pa.array(rows, pa.bool_())), verdicts.filter(pa.array(rows, pa.bool_()))


def right_only(traces: pa.Table, verdicts: pa.Table) -> tuple[pa.Table, pa.Table]:
    """What was accepted."""
    rows = [v.parts.get("kept") == 1.0 for v in from_table(verdicts, Verdict)]
    return traces.filter(pa.array(rows, pa.bool_())), verdicts.filter(pa.array(rows, pa.bool_()))


async def make_examples(
    crew: Crew, asked: Sequence[Item], traces: pa.Table, verdicts: pa.Table
) -> tuple[pa.Table, dict[str, Any]]:
    """CoT and reflective examples of the sampled traces, and what they came to."""
    recipe = crew.recipe
    examples, outcomes = await crew.synthesizer_call(
        "synthesize", crew.items_table(asked), traces, verdicts, recipe.synthesis, recipe.student.max_new_tokens,
        crew.seed,
    )  # fmt: skip
    write_whole(
        crew.run.path / "lineage" / "outcomes.parquet", lambda aside: pl.DataFrame(outcomes).write_parquet(aside)
    )
    return examples, summarize(from_table(examples, Example), outcomes)


async def write_mixture(crew: Crew, train: Sequence[Item], pools: Sequence[pa.Table], counts: dict[str, Any]) -> None:
    """Examples that need not wait for a person, mixed by the recipe's quotas, into ``examples.parquet``."""
    recipe, run = crew.recipe, crew.run
    pool = write_pool(run.path, pools)
    decisions = read_decisions(run.path)
    waiting = queued(pool, recipe.synthesis.review, crew.seed)
    free = released(pool, waiting, decisions, read_edits(run.path))
    mixture, report = await crew.synthesizer_call("mix", recipe.mixture, crew.seed, modalities_table(train), free)
    write_parquet(mixture, run.examples)
    if left := len(waiting - decisions.keys()):
        counts["waiting_for_review"] = left
        crew.screen.say(
            f"[yellow]review[/] {left} examples wait for a person: residency review export {run.path} OUT.csv"
        )
    run.update_summary(synthesis=counts | {"mixture": asdict(report)})


async def difficulty_stage(crew: Crew) -> None:
    """The SFT checkpoint's own pass counts on train items, and the prompts that RL draws by them."""
    config, mixture = crew.recipe.difficulty, crew.recipe.mixture
    train = list(crew.dataset.split(Split.TRAIN))
    asked = train[-config.items :] if config.items else train  # not the ones that synthesis sampled first
    await crew.put_on_generators("sft")
    sampling = SamplingConfig(temperature=crew.recipe.rl.temperature, max_new_tokens=crew.recipe.student.max_new_tokens)
    counts = list[PassCount]()
    with crew.screen.steps("difficulty by pass counts", len(asked) * config.samples, "traces") as steps:
        async for batch in sample(
            crew, "difficulty", asked, mode=PromptMode.THINK, num_samples=config.samples, sampling=sampling
        ):
            counts += count_passes(from_table(batch.traces, Trace), from_table(batch.verdicts, Verdict))
            steps.advance(batch.traces.num_rows)
    prompts = choose_prompts(
        counts,
        crew.recipe.rl.steps * crew.recipe.rl.prompts_per_step,
        config.keep_easy,
        crew.seed,
        distinct=mixture.num_rl_prompts,
        text_share=mixture.rl_text,
        text_ids={item.id for item in asked if not item.media},
    )
    table = pa.table(
        {
            "item_id": [count.item_id for count in counts],
            "right": [count.right for count in counts],
            "samples": [count.samples for count in counts],
        }
    )
    write_whole(
        crew.run.path / "lineage" / "pass_counts.parquet", lambda aside: pl.DataFrame(table).write_parquet(aside)
    )
    write_whole(crew.prompts_path, lambda aside: aside.write_text(json.dumps(prompts)))
    crew.run.update_summary(difficulty=spread(counts) | {"prompts": len(set(prompts))})


def spread(counts: list[PassCount]) -> dict[str, Any]:
    """How many items were never, sometimes and always right."""
    return {
        "items": len(counts),
        "never": sum(count.right == 0 for count in counts),
        "sometimes": sum(0 < count.right < count.samples for count in counts),
        "always": sum(0 < count.samples == count.right for count in counts),
    }
