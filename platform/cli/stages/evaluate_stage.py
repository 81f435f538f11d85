"""The boards: every checkpoint, greedy and sampled, on true and blank images, with paired comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from residency.platform.arrow_tables import from_table
from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.sampling import sample
from residency.platform.records import Item, PromptMode, Split, Trace, Verdict
from residency.platform.run_folder import RunFolder, write_whole
from residency.platform.sampling import SamplingConfig
from residency.training.evaluation.comparisons import comparison_row, evaluation_row
from residency.training.evaluation.outcomes import outcomes_table

RULES = "residency-1"  # the scoring profile's name and version


@dataclass(frozen=True, kw_only=True, slots=True)
class Sitting:
    """One sitting of the boards: which checkpoint, prompted and decoded how, on which images."""

    checkpoint: str
    prompt_mode: PromptMode = PromptMode.THINK
    temperature: float = 0.0
    samples: int = 1
    image: str = "true"
    split: Split = Split.HELD_OUT

    @property
    def decoding(self) -> str:
        if self.temperature == 0:
            return "greedy"
        return "sampled" if self.temperature == 1 else f"sampled at T={self.temperature:g}"

    @property
    def name(self) -> str:
        parts = [self.checkpoint, self.prompt_mode.value, self.decoding.replace(" ", "-"), self.image]
        return "-".join(parts) if self.split is Split.HELD_OUT else "-".join([*parts, self.split.value])


async def sit(crew: Crew, sitting: Sitting, items: Sequence[Item], advance: Any) -> pl.DataFrame:
    """Outcomes of one sitting; the weights are already on the generators. Every prediction is kept on disk."""
    sampling = SamplingConfig(temperature=sitting.temperature, max_new_tokens=crew.recipe.student.max_new_tokens)
    tables = []
    await crew.media()  # it also says which blank image stands for which
    async for batch in sample(
        crew,
        f"evaluate-{sitting.name}",
        items,
        mode=sitting.prompt_mode,
        num_samples=sitting.samples,
        sampling=sampling,
        media=crew.blanks if sitting.image == "blank" else None,
    ):
        traces, verdicts = from_table(batch.traces, Trace), from_table(batch.verdicts, Verdict)
        tables.append(outcomes_table(batch.items, traces, verdicts, dataset=crew.dataset_name, seed=crew.seed))
        advance(batch.traces.num_rows)
    outcomes = pl.concat(tables)
    path = outcomes_path(crew.run, sitting)
    write_whole(path, lambda aside: outcomes.write_parquet(aside))
    return outcomes


def outcomes_path(run: RunFolder, sitting: Sitting) -> Path:
    return run.evaluation / f"{sitting.name}.parquet"


def plan_sittings(crew: Crew, checkpoints: Sequence[str], best_temperature: float | None) -> list[Sitting]:
    """What is sat, by checkpoint. Controls sit what their comparison needs; base one sample, it only babbles."""
    samples = crew.recipe.evaluation.samples
    plan = []
    for name in checkpoints:
        control = name in crew.recipe.rl.controls
        plan.append(Sitting(checkpoint=name))
        plan.append(Sitting(checkpoint=name, temperature=1.0, samples=1 if name == "base" else samples))
        if control:
            continue
        plan.append(Sitting(checkpoint=name, image="blank"))
        if name == "base":
            continue
        plan.append(Sitting(checkpoint=name, temperature=1.0, image="blank"))
        plan.append(Sitting(checkpoint=name, prompt_mode=PromptMode.DIRECT))
        if name == "sft" and best_temperature is not None:
            plan.append(Sitting(checkpoint=name, temperature=best_temperature, samples=samples))
    return plan


async def choose_temperature(crew: Crew, items: Sequence[Item], advance: Any) -> float | None:
    """The temperature at which the SFT checkpoint does best on the tune split; None where the recipe tries none."""
    accuracy = {}
    for temperature in crew.recipe.evaluation.temperatures:
        sitting = Sitting(checkpoint="sft", temperature=temperature, samples=2, split=Split.TUNE)
        outcomes = await sit(crew, sitting, items, advance)
        accuracy[temperature] = float(outcomes["correct"].to_numpy().mean())
    return max(accuracy, key=lambda temperature: accuracy[temperature]) if accuracy else None


async def evaluate_stage(crew: Crew) -> None:
    """Sits every sitting that has not been sat yet (each is kept by itself), then writes the summary's rows."""
    recipe, held_out, tune = crew.recipe, crew.dataset.split(Split.HELD_OUT), crew.dataset.split(Split.TUNE)
    checkpoints = [name for name in ("base", "sft", "rl", *recipe.rl.controls) if crew.has_checkpoint(name)]
    done: dict[Sitting, pl.DataFrame] = {}
    best_temperature: float | None = None
    for name in checkpoints:
        await crew.put_on_generators(name)
        if name == "sft" and recipe.evaluation.temperatures:
            total = 2 * len(tune) * len(recipe.evaluation.temperatures)
            with crew.screen.steps("temperature on tune", total, "answers") as steps:
                best_temperature = await choose_temperature(crew, tune, steps.advance)
        plan = plan_sittings(crew, [name], best_temperature)
        with crew.screen.steps(f"evaluate {name}", len(held_out) * sum(s.samples for s in plan), "answers") as steps:
            for sitting in plan:
                if outcomes_path(crew.run, sitting).is_file():
                    done[sitting] = pl.read_parquet(outcomes_path(crew.run, sitting))
                    steps.advance(done[sitting].height)
                else:
                    done[sitting] = await sit(crew, sitting, held_out, steps.advance)
    crew.run.update_summary(
        evaluation=evaluation_rows(done, crew.dataset_name, crew.seed),
        comparisons=comparison_rows(done, crew.dataset_name, crew.seed, recipe.evaluation.bootstrap_resamples),
    )


def evaluation_rows(done: Mapping[Sitting, pl.DataFrame], dataset: str, seed: int | None) -> list[dict[str, Any]]:
    return [
        evaluation_row(
            outcomes,
            checkpoint=sitting.checkpoint,
            dataset=dataset,
            seed=seed,
            prompt_mode=sitting.prompt_mode.value,
            decoding=sitting.decoding,
            image=sitting.image,
            profile=RULES,
        )
        for sitting, outcomes in done.items()
    ]


def comparison_rows(
    done: Mapping[Sitting, pl.DataFrame], dataset: str, seed: int | None, resamples: int
) -> list[dict[str, Any]]:
    """RL − SFT and RL − control sampled, RL − SFT greedy, and what the image is worth to each checkpoint."""
    by_name = {sitting.name: (sitting, outcomes) for sitting, outcomes in done.items()}
    rl_others = ("sft", "sft_continued", "rl_permuted")
    wanted = [("rl-think-sampled-true", f"{other}-think-sampled-true", "rl", other) for other in rl_others]
    wanted += [("rl-think-greedy-true", f"{other}-think-greedy-true", "rl", other) for other in rl_others]
    wanted += [("sft-think-greedy-true", "base-think-greedy-true", "sft", "base")]
    wanted += [
        (f"{name}-think-greedy-true", f"{name}-think-greedy-blank", name, f"{name}@blank") for name in ("sft", "rl")
    ]
    rows = []
    for left, right, a_name, b_name in wanted:
        if left not in by_name or right not in by_name:
            continue
        sitting, a = by_name[left]
        rows.append(
            comparison_row(
                a,
                by_name[right][1],
                a_name=a_name,
                b_name=b_name,
                dataset=dataset,
                seed=seed,
                prompt_mode=sitting.prompt_mode.value,
                decoding=sitting.decoding,
                image=sitting.image,
                resamples=resamples,
            )
        )
    return rows


def pooled_outcomes(runs: Sequence[RunFolder]) -> dict[Sitting, pl.DataFrame]:
    """Outcomes of every sitting that all seeds have sat, seeds stacked."""
    names = set.intersection(*({path.name for path in run.evaluation.glob("*.parquet")} for run in runs))
    pooled = {}
    for sitting in known_sittings(names):
        pooled[sitting] = pl.concat([pl.read_parquet(outcomes_path(run, sitting)) for run in runs])
    return pooled


def known_sittings(file_names: set[str]) -> list[Sitting]:
    """Sittings whose file is among the names (held-out, temperatures 0 and 1), in the table's order."""
    plan = []
    for name in ("base", "sft", "rl", "sft_continued", "rl_permuted"):
        for temperature in (0.0, 1.0):
            for image in ("true", "blank"):
                plan.append(Sitting(checkpoint=name, temperature=temperature, image=image))
        plan.append(Sitting(checkpoint=name, prompt_mode=PromptMode.DIRECT))
    return [sitting for sitting in plan if f"{sitting.name}.parquet" in file_names]
