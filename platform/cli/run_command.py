"""`residency run RECIPE` and the stages alone: the same path, stopped after the stage that is named."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from residency.platform.cli.check_command import report_findings
from residency.platform.cli.options import JsonOption, ProfileOption, RecipeArgument, RunOption, SetOption
from residency.platform.cli.screen import Screen, comparison_table, evaluation_tables, print_json
from residency.platform.errors import BadInputError
from residency.platform.preflight import check
from residency.platform.profiles import Profile, load_profile
from residency.platform.recipe import Recipe
from residency.platform.recipe_file import load_recipe
from residency.platform.run_folder import RunFolder
from residency.platform.shipped import find


def prepare(
    recipe: str, profile: str, run: Path | None, overrides: list[str] | None
) -> tuple[Recipe, Profile, RunFolder]:
    """The checked recipe and profile, and the run's folder; raises BadInputError with every mistake at once."""
    loaded = load_recipe(find("recipes", recipe), tuple(overrides or ()))
    on = load_profile(find("profiles", profile))
    folder = run or Path("runs") / loaded.name
    findings = check(loaded, on, folder)
    if findings.mistakes:
        report_findings(findings, loaded, as_json=False)
    return loaded, on, RunFolder(folder)


def execute(
    recipe: Recipe, profile: Profile, run: RunFolder, last_stage: str, as_json: bool, screen: Screen | None = None
) -> None:
    """Carry out the stages up to ``last_stage`` and show what it came to."""
    from residency.platform.cli.conductor import conduct

    screen = screen or Screen()
    asyncio.run(conduct(recipe, profile, run, last_stage, screen))
    summary = run.summary()
    if as_json:
        print_json(summary)
    elif last_stage == "evaluate":
        for table in evaluation_tables(summary.get("evaluation", [])):
            screen.console.print(table)
        screen.console.print(comparison_table(summary.get("comparisons", [])))
        differences = summary.get("profile_differences", [])
        if differences:
            more = f" (and {len(differences) - 1} more in the report)" if len(differences) > 1 else ""
            screen.say(f"[yellow]profiles differ[/] {escape(differences[0])}{more}")
        screen.say(f"report: {run.path / 'report.html'}")
    else:
        screen.say(f"done up to {last_stage}: {run.path}")


def run_command(
    recipe: RecipeArgument,
    run: RunOption = None,
    profile: ProfileOption = "laptop",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry out a recipe. The same command with the same --run goes on where it stopped."""
    loaded, on, folder = prepare(recipe, profile, run, overrides)
    execute(loaded, on, folder, "evaluate", as_json)


def synthesize_command(
    recipe: RecipeArgument,
    run: RunOption = None,
    profile: ProfileOption = "laptop",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Data, warm-up and synthesis: the SFT mixture in examples.parquet."""
    loaded, on, folder = prepare(recipe, profile, run, overrides)
    execute(loaded, on, folder, "synthesize", as_json)


def sft_command(
    recipe: RecipeArgument,
    run: RunOption = None,
    profile: ProfileOption = "laptop",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Up to supervised fine-tuning: checkpoints/sft."""
    loaded, on, folder = prepare(recipe, profile, run, overrides)
    execute(loaded, on, folder, "sft", as_json)


def rl_command(
    recipe: RecipeArgument,
    run: RunOption = None,
    profile: ProfileOption = "laptop",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Up to reinforcement learning: checkpoints/rl."""
    loaded, on, folder = prepare(recipe, profile, run, overrides)
    if loaded.rl.steps == 0:
        raise BadInputError(f"{loaded.name} has rl.steps 0", "at least one step", "--set rl.steps=30")
    execute(loaded, on, folder, "rl", as_json)


def evaluate_command(
    recipe: RecipeArgument,
    run: RunOption = None,
    profile: ProfileOption = "laptop",
    overrides: SetOption = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Score the kept predictions again, by the rules of today; ask nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Up to the boards: the table of intervals and report.html."""
    loaded, on, folder = prepare(recipe, profile, run, overrides)
    if rescore:
        rescore_run(loaded, folder)
    execute(loaded, on, folder, "evaluate", as_json)


def rescore_run(recipe: Recipe, run: RunFolder) -> None:
    """Scores all that the run has predicted; the summary and the report are written anew."""
    from residency.platform.cli.conductor import pool, seed_runs
    from residency.platform.cli.stages.scoring import forget_scores, score_run
    from residency.platform.report.report import write_report

    parts = seed_runs(run.path)
    for seed, part in zip(recipe.seeds, parts or [run], strict=True):
        if "evaluate" not in part.finished_stages():
            raise BadInputError(f"{part.path} was not evaluated yet", "a finished evaluation", "leave --rescore out")
        forget_scores(part)
        score_run(recipe, part, seed)
    if parts:
        pool(recipe, run, parts)
    write_report(run.path)
