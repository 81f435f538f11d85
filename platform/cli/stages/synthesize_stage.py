"""Synthesis and difficulty: really sampled traces, judged by rules, become examples, pass counts and RL's prompts."""

import json
from dataclasses import asdict
from typing import Any

import polars as pl
import pyarrow as pa

from residency.platform.arrow_tables import from_table, write_parquet
from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.sampling import sample
from residency.platform.recipe import TeacherConfig
from residency.platform.records import Example, Item, PromptMode, Split, Target, Trace, Verdict
from residency.platform.run_folder import write_whole
from residency.platform.sampling import SamplingConfig
from residency.synthesis.difficulty import PassCount, choose_prompts, count_passes
from residency.synthesis.synthesized import summarize


async def sample_teacher(
    crew: Crew, teacher: TeacherConfig, number: int, items: list[Item]
) -> tuple[pa.Table, pa.Table, list[PassCount]]:
    """K traces an item from one teacher, with verdicts and pass counts; every one of them is on disk."""
    config = crew.recipe.synthesis
    if teacher.kind == "policy":
        await crew.put_on_generators("warm_up")
        engines = await crew.generators()
    else:
        engines = await crew.teachers(number, str(teacher.model))
    sampling = SamplingConfig(temperature=config.temperature, max_new_tokens=crew.recipe.student.max_new_tokens)
    traces, verdicts, counts = [], [], list[PassCount]()
    title = f"sampling {'the warm-up' if teacher.kind == 'policy' else teacher.model}"
    with crew.screen.steps(title, len(items) * config.samples, "traces") as steps:
        async for batch in sample(
            crew,
            f"synthesize-{number}",
            items,
            mode=PromptMode.THINK,
            num_samples=config.samples,
            sampling=sampling,
            generators=engines,
        ):
            traces.append(batch.traces)
            verdicts.append(batch.verdicts)
            counts += count_passes(from_table(batch.traces, Trace), from_table(batch.verdicts, Verdict))
            steps.advance(batch.traces.num_rows)
    if teacher.kind == "vllm":
        await crew.close_teachers(number)
    return pa.concat_tables(traces), pa.concat_tables(verdicts), counts


async def synthesize_stage(crew: Crew) -> None:
    """Teachers in turn, each asked for what the one before left unsolved; then examples by target and the mixture."""
    recipe = crew.recipe
    train = list(crew.dataset.split(Split.TRAIN))
    asked = train[: recipe.synthesis.items] if recipe.synthesis.items else train
    unsolved, traces, verdicts = asked, list[pa.Table](), list[pa.Table]()
    solved: dict[str, PassCount] = {}
    for number, teacher in enumerate(recipe.synthesis.teachers):
        if teacher.kind == "annotations" or not unsolved:
            continue
        found_traces, found_verdicts, counts = await sample_teacher(crew, teacher, number, unsolved)
        traces.append(found_traces)
        verdicts.append(found_verdicts)
        solved |= {count.item_id: count for count in counts if count.right}
        unsolved = [item for item in unsolved if item.id not in solved]
    await write_mixture(crew, asked, train, traces, verdicts)


async def write_mixture(
    crew: Crew, asked: list[Item], train: list[Item], traces: list[pa.Table], verdicts: list[pa.Table]
) -> None:
    """Examples of all three targets, mixed by the recipe's quotas, into ``examples.parquet``; counts into the summary.

    Items without a sampled right trace keep the annotations' rationale where the recipe has that teacher.
    """
    recipe = crew.recipe
    pools = [await crew.synthesizer_call("write_direct", crew.items_table(train))]
    outcomes, made = None, list[Example]()
    if traces:
        examples, outcomes = await crew.synthesizer_call(
            "synthesize", crew.items_table(asked), pa.concat_tables(traces), pa.concat_tables(verdicts),
            recipe.synthesis, recipe.student.max_new_tokens, crew.seed,
        )  # fmt: skip
        made = from_table(examples, Example)
        pools.append(examples)
        write_whole(
            crew.run.path / "lineage" / "outcomes.parquet", lambda aside: pl.DataFrame(outcomes).write_parquet(aside)
        )
    if any(teacher.kind == "annotations" for teacher in recipe.synthesis.teachers):
        told = {example.item_id for example in made if example.target is Target.COT}
        untold = [item for item in train if item.id not in told]
        pools.append(await crew.synthesizer_call("write_rationales", crew.items_table(untold), crew.seed))
    mixture, report = await crew.synthesizer_call("mix", recipe.mixture, crew.seed, *pools)
    counts = summarize(made, outcomes) if outcomes is not None else {}
    write_parquet(mixture, crew.run.examples)
    crew.run.update_summary(synthesis=counts | {"mixture": asdict(report)})


async def difficulty_stage(crew: Crew) -> None:
    """The SFT checkpoint's own pass counts on train items, and the prompts that RL draws by them."""
    config = crew.recipe.difficulty
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
    number = crew.recipe.rl.steps * crew.recipe.rl.prompts_per_step
    prompts = choose_prompts(counts, number, config.keep_easy, crew.seed)
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
    crew.run.update_summary(difficulty=spread(counts))


def spread(counts: list[PassCount]) -> dict[str, Any]:
    """How many items were never, sometimes and always right."""
    return {
        "items": len(counts),
        "never": sum(count.right == 0 for count in counts),
        "sometimes": sum(0 < count.right < count.samples for count in counts),
        "always": sum(0 < count.samples == count.right for count in counts),
    }
