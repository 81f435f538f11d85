"""`residency ablate RECIPE`: one base and one synthesis, five mixtures, one table."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from residency.platform.cli.options import JsonOption, ProfileOption, RecipeArgument, RunOption, SetOption
from residency.platform.cli.screen import Screen, narrow_table, percent, print_json
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.run_folder import RunFolder, write_whole
from residency.synthesis.ablation import ALL, arms
from residency.synthesis.mixture import MixtureReport

SHARED = "shared"  # the folder of what all arms have in common
Row = dict[str, Any]


def ablate_command(
    recipe: RecipeArgument = "ablation",
    run: RunOption = None,
    profile: ProfileOption = "laptop",
    overrides: SetOption = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Print the five mixtures and start nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on all, and without reflective, general CoT, general multimodal and text; compare on the same questions.

    The same command with the same --run goes on where it stopped.
    """
    from residency.platform.cli.run_command import prepare

    loaded, on, folder = prepare(recipe, profile, run, overrides)
    plan = arm_recipes(loaded)
    screen = Screen(quiet=plan_only and as_json)
    if plan_only:
        shown = {arm: one.mixture.model_dump(mode="json") for arm, one in plan.items()}
        print_json(shown) if as_json else screen.say(json.dumps(shown, indent=1))
        return
    rows = asyncio.run(ablate(loaded, plan, on, folder.path, screen))
    document = {"recipe": loaded.name, "rows": rows}
    write_whole(folder.path / "ablation.json", lambda aside: aside.write_text(json.dumps(document, indent=1)))
    if as_json:
        print_json(document)
    else:
        screen.console.print(table_of(rows))


def arm_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """Arm → its recipe. The base is examined once, beside the mixture of everything; no arm goes on to RL."""
    rl = recipe.rl.model_copy(update={"steps": 0})
    found = {}
    for arm, mixture in arms(recipe.mixture).items():
        examined = ("base", "sft") if arm == ALL else ("sft",)
        evaluation = recipe.evaluation.model_copy(update={"checkpoints": examined})
        found[arm] = recipe.model_copy(update={"mixture": mixture, "rl": rl, "evaluation": evaluation})
    return found


async def ablate(
    recipe: Recipe, plan: Mapping[str, Recipe], profile: Profile, folder: Path, screen: Screen
) -> list[Row]:
    """The table's rows, once every arm is trained and examined."""
    from residency.platform.cli.conductor import conduct, seed_runs

    shared = RunFolder(folder / SHARED)
    await conduct(plan[ALL], profile, shared, "synthesize", screen)
    parts = seed_runs(shared.path) or [shared]
    for arm, one in plan.items():
        screen.say(f"[bold]{arm}[/]")
        for seed, part in zip(recipe.seeds, parts, strict=True):
            target = folder / arm / part.path.name if len(parts) > 1 else folder / arm
            prepare_arm(part, target, one, seed, profile)
        await conduct(one, profile, RunFolder(folder / arm), "evaluate", screen)
    return rows_of(folder, list(plan))


def prepare_arm(part: RunFolder, target: Path, recipe: Recipe, seed: int, profile: Profile) -> None:
    """A branch of what is shared, with the arm's own mixture; left alone where it is there already."""
    from residency.platform.cli.branching import branch_run
    from residency.platform.cli.remixing import remix

    if (target / "journal" / "stages.jsonl").is_file():
        return
    aside = target.with_name(f".{target.name}.partial")
    if aside.exists():
        import shutil

        shutil.rmtree(aside)  # left by a process that was killed
    one = recipe.model_copy(update={"seeds": (seed,)})
    branch = branch_run(part, aside, "synthesize")
    report: MixtureReport = remix(branch, one, seed)
    branch.open(one, profile)
    branch.event("mixed", total=report.total, got_targets=dict(report.got_targets))
    aside.rename(target)


def rows_of(folder: Path, names: list[str]) -> list[Row]:
    """One row an arm and prompt mode: examples, accuracy, and the paired difference to the mixture of everything."""
    from residency.platform.cli.compare_command import outcomes_by_key
    from residency.platform.cli.conductor import seed_runs
    from residency.training.evaluation.compare_runs import compare_runs

    rows: list[Row] = []
    profile = RunFolder(folder / ALL).recipe().evaluation.profile
    everything = outcomes_by_key(folder / ALL, profile)
    for arm in names:
        summary = RunFolder(folder / arm).summary()
        parts = seed_runs(folder / arm) or [RunFolder(folder / arm)]
        mixed = [part.summary()["synthesis"]["mixture"] for part in parts]
        own = everything if arm == ALL else outcomes_by_key(folder / arm, profile)
        shared = {key: frame for key, frame in everything.items() if key in own}
        differences = [] if arm == ALL else compare_runs(own, shared, a_name=arm, b_name=ALL).rows
        pooled = [row for row in summary["evaluation"] if row["seed"] is None] or summary["evaluation"]
        for row in pooled:
            if (row["image"], row["decoding"]) != ("true", "greedy") or not row["profile"].startswith(profile):
                continue
            difference = next((d for d in differences if same_sitting(d, row)), None)
            rows.append(
                {
                    "arm": "base" if row["checkpoint"] == "base" else arm,
                    "dataset": row["dataset"],
                    "prompt_mode": row["prompt_mode"],
                    "examples": None if row["checkpoint"] == "base" else [one["total"] for one in mixed],
                    "targets": None if row["checkpoint"] == "base" else [one["got_targets"] for one in mixed],
                    "families": None if row["checkpoint"] == "base" else [one["got_families"] for one in mixed],
                    "notes": sorted({note for one in mixed for note in one["notes"]}),
                    "n": row["n"],
                    "accuracy": row["accuracy"],
                    "ci95": row["ci95"],
                    "difference": difference and difference["difference"],
                    "difference_ci95": difference and difference["ci95"],
                }
            )
    return rows


def same_sitting(difference: Row, row: Row) -> bool:
    names = ("dataset", "prompt_mode", "decoding", "image")
    return difference["checkpoint"] == row["checkpoint"] and all(difference[name] == row[name] for name in names)


def table_of(rows: list[Row]) -> Any:
    """One table: what each part of the mixture is worth on the same held-out questions."""
    table = narrow_table(
        "Mixtures (held-out accuracy, greedy; difference to all, points)",
        "mixture",
        ("examples", "prompt", "n", "acc.", "95 % int.", "− all", "95 % int."),
    )
    several = len({row["dataset"] for row in rows}) > 1
    for row in rows:
        low, high = row["ci95"]
        gap, bounds = row["difference"], row["difference_ci95"]
        table.add_row(
            f"{row['arm']}, {row['dataset']}" if several else row["arm"],
            "" if row["examples"] is None else str(sum(row["examples"])), row["prompt_mode"], str(row["n"]),
            percent(row["accuracy"]), f"{percent(low)}–{percent(high)}",
            "" if gap is None else f"{100 * gap:+.1f}",
            "" if bounds is None else f"{100 * bounds[0]:+.1f} … {100 * bounds[1]:+.1f}",
        )  # fmt: skip
    return table
