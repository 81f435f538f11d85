"""`residency check RECIPE`: preflight without torch or Ray."""

from rich.table import Table

from residency.platform.cli.options import JsonOption, ProfileOption, RecipeArgument, RunOption, SetOption
from residency.platform.cli.screen import console, print_json
from residency.platform.errors import BadInputError
from residency.platform.memory_plan import RolePlan
from residency.platform.preflight import Findings, check
from residency.platform.profiles import load_profile
from residency.platform.recipe import Recipe, load_recipe
from residency.platform.shipped import find


def plan_table(roles: tuple[RolePlan, ...]) -> Table:
    """One line a role: where it runs and what it needs (GiB an actor)."""
    table = Table(title="What will run, and its memory (GiB an actor)", title_justify="left")
    for name in ("role", "n", "CPU", "GPU", "on", "param.", "grad.", "optim.", "KV", "sum"):
        table.add_column(name, justify="left" if name in ("role", "on") else "right", no_wrap=True)
    for plan in roles:
        sizes = (plan.parameters_gib, plan.gradients_gib, plan.optimizer_gib, plan.kv_cache_gib, plan.total_gib)
        counts = (str(plan.actors), f"{plan.cpus:g}", f"{plan.gpus:g}", plan.device)
        table.add_row(plan.role, *counts, *(f"{size:.2f}" for size in sizes))
    return table


def stage_table(recipe: Recipe) -> Table:
    """The figures that the recipe names, with the source of each."""
    table = Table(title="Figures and their sources", title_justify="left")
    for name in ("key", "source"):
        table.add_column(name)
    for key, source in recipe.sources.items():
        table.add_row(key, source)
    return table


def report_findings(findings: Findings, recipe: Recipe, as_json: bool) -> None:
    """Print the plan and notes; raises BadInputError with every mistake at once."""
    if as_json:
        print_json(
            {
                "ok": not findings.mistakes,
                "mistakes": [str(mistake) for mistake in findings.mistakes],
                "notes": list(findings.notes),
                "roles": [
                    {
                        "role": plan.role,
                        "actors": plan.actors,
                        "cpus": plan.cpus,
                        "gpus": plan.gpus,
                        "device": plan.device,
                        "total_gib": round(plan.total_gib, 3),
                    }
                    for plan in findings.roles
                ],
            }
        )
    else:
        console.print(plan_table(findings.roles))
        if recipe.sources:
            console.print(stage_table(recipe))
        for note in findings.notes:
            console.print(f"[yellow]note[/] {note}", highlight=False)
    if findings.mistakes:
        number = len(findings.mistakes)
        lines = "\n".join(f"  {index}. {mistake}" for index, mistake in enumerate(findings.mistakes, 1))
        raise BadInputError(f"{number} mistake{'s' if number > 1 else ''} in {recipe.name}:\n{lines}")


def check_command(
    recipe: RecipeArgument,
    profile: ProfileOption = "laptop",
    run: RunOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a recipe: every mistake at once, then one plan. Starts nothing."""
    loaded = load_recipe(find("recipes", recipe), tuple(overrides or ()))
    findings = check(loaded, load_profile(find("profiles", profile)), run)
    report_findings(findings, loaded, as_json)
    if not as_json:
        console.print(f"[green]ok[/] {loaded.name} can run under {profile}", highlight=False)
