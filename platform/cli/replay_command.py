"""`residency replay RUN --step N`: one optimizer step of RL again, against what the run wrote down."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.markup import escape

from residency.platform.cli.options import JsonOption
from residency.platform.cli.screen import Screen, console, print_json
from residency.platform.errors import BadInputError
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.recipe_file import explain, read_yaml
from residency.platform.run_folder import RunFolder


def replay_command(
    run: Annotated[Path, typer.Argument(help="A run's folder; of one seed, where the run has several.")],
    step: Annotated[int, typer.Option("--step", min=1, help="The optimizer step, counted from 1.")],
    role: Annotated[Literal["rl", "rl_permuted"], typer.Option(help="Whose step: RL's, or its control's.")] = "rl",
    as_json: JsonOption = False,
) -> None:
    """Train one step again from journal and traces and compare loss and gradient norm: exit 0 if bit for bit equal."""
    from residency.platform.cli.stages.replaying import plan_replay, replay
    from residency.platform.cluster import local_cluster
    from residency.platform.journal.reader import read_state

    folder = RunFolder(run)
    recipe, profile = opened(folder)
    plan = plan_replay(folder, read_state(folder.path / "journal"), role, step)
    screen = Screen(quiet=as_json)
    with local_cluster(profile, folder.logs), screen.live():
        trained, update = asyncio.run(replay(folder, recipe, profile, plan, screen))
    rows = {
        "loss": compared(plan.loss, trained.loss),
        "gradient_norm": compared(plan.gradient_norm, update.gradient_norm),
    }
    equal = all(row["bitwise_equal"] for row in rows.values())
    others = other_versions(folder)
    if as_json:
        print_json(
            {
                "run": str(run), "role": role, "step": step, "from": plan.checkpoint,
                "steps_trained": len(plan.steps), "ranks": profile.learners.actors, "bitwise_equal": equal,
                "other_versions": others, **rows,
            }
        )  # fmt: skip
    else:
        console.print(
            f"step {step} of {role}, trained from {plan.checkpoint} in {len(plan.steps)} steps"
            f" on {profile.learners.actors} ranks"
        )
        for name, row in rows.items():
            console.print(sentence(name.replace("_", " "), row), highlight=False)
        for package, (then, now) in others.items():
            console.print(f"[yellow]![/] {escape(package)} was {then} then and is {now} now", highlight=False)
    if not equal:
        raise typer.Exit(1)


def opened(run: RunFolder) -> tuple[Recipe, Profile]:
    """Recipe and profile of the run; BadInputError where it is none, or of a form that this version does not know."""
    if not (run.path / "recipe.yaml").is_file() or not (run.path / "journal").is_dir():
        raise BadInputError(
            f"{run.path} is no run with a journal",
            "a run's folder, with recipe.yaml and journal/",
            "give the --run of a run (the folder of one seed, where there are several)",
        )
    resolved = run.path / "recipe.yaml"
    try:
        return run.recipe(), Profile.model_validate(read_yaml(resolved).get("profile"))
    except BadInputError as error:
        raise another_version(resolved, error) from error
    except ValidationError as error:
        raise another_version(resolved, explain(error, str(resolved))) from error


def another_version(resolved: Path, error: BadInputError) -> BadInputError:
    return BadInputError(
        f"{resolved} is not of this version's form: {error.seen}",
        "a recipe and a profile that this version knows",
        "replay the run with the Residency that made it (summary.json names it)",
    )


def compared(then: float, now: float) -> dict[str, Any]:
    """Both numbers, whole: ``hex`` shows every bit."""
    return {
        "run": then, "replay": now, "run_hex": then.hex(), "replay_hex": now.hex(),
        "difference": now - then, "bitwise_equal": then.hex() == now.hex(),
    }  # fmt: skip


def sentence(name: str, row: dict[str, Any]) -> str:
    """One line for people."""
    verdict = "[green]bitwise equal[/]" if row["bitwise_equal"] else f"[red]differs by {row['difference']:.3e}[/]"
    return (
        f"{name:<14} run {row['run']!r} ({row['run_hex']})\n{'':<11} replay {row['replay']!r} ({row['replay_hex']})"
        f"  {verdict}"
    )


def other_versions(run: RunFolder) -> dict[str, tuple[str, str]]:
    """Packages that decide about the last bit and are not what the run was made with: (then, now)."""
    from residency.platform.cli.conductor import versions

    then, now = run.summary().get("versions", {}), versions()
    wanted = ("residency", "torch", "transformers", "deepspeed")
    return {name: (then[name], now[name]) for name in wanted if name in then and then[name] != now.get(name)}
