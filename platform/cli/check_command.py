"""`residency check RECIPE`: preflight without torch or Ray."""

import math
from dataclasses import asdict, replace

from rich.table import Table

from residency.platform.cli.options import JsonOption, ProfileOption, RecipeArgument, RunOption, SetOption
from residency.platform.cli.screen import console, print_json
from residency.platform.errors import BadInputError
from residency.platform.memory_plan import RolePlan, StorePlan
from residency.platform.node_types import NodeType, Seat, label_words, node_loads, types_for
from residency.platform.preflight import Findings, check
from residency.platform.profiles import load_profile
from residency.platform.recipe import Recipe
from residency.platform.recipe_file import load_recipe
from residency.platform.shipped import find


def place_table(findings: Findings) -> Table:
    """One line a role: how many, what each takes, and where it goes."""
    table = Table(title="What will run where", title_justify="left")
    for name in ("role", "n", "at most", "CPU", "GPU", "goes to"):
        table.add_column(name, justify="left" if name in ("role", "goes to") else "right")
    for plan in findings.roles:
        seat = plan.seat
        table.add_row(
            plan.role, str(plan.actors), str(plan.most_actors), f"{seat.cpus:g}", f"{seat.gpus:g}",
            " or ".join(places(seat, findings.node_types)),
        )  # fmt: skip
    return table


def places(seat: Seat, types: tuple[NodeType, ...] | None) -> list[str]:
    """Where a seat may be: for each of its label options the node types that have it, else the labels themselves."""
    found: list[str] = []
    for labels in seat.label_options:
        fitting = types_for(replace(seat, label_options=(labels,)), types or ())
        asked = f" ({label_words(labels)})" if labels else ""
        found += [f"{node.name}{asked}" for node in fitting]
        if types is None:
            found.append(label_words(labels))
    return list(dict.fromkeys(found)) or ["no node type"]


def type_table(findings: Findings) -> Table:
    """One line a node type (or several that the same roles go to): what is wanted of it, at first and at most."""
    table = Table(title="Sums by node type, all roles at once", title_justify="left")
    for name in ("node type", "nodes at most", "roles", "CPU", "of", "GPU", "of"):
        table.add_column(name, justify="left" if name in ("node type", "roles") else "right")
    for load in node_loads(findings.demands, findings.node_types or ()):
        table.add_row(
            ", ".join(load.types) or "none", f"{load.max_nodes}", ", ".join(load.roles),
            span(load.cpus, load.most_cpus), known(load.has_cpus),
            span(load.gpus, load.most_gpus), known(load.has_gpus),
        )  # fmt: skip
    return table


def span(low: float, high: float) -> str:
    """``4``, or ``4–8`` where it may grow."""
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def known(amount: float) -> str:
    """An amount, or that it is not known."""
    return "?" if math.isinf(amount) else f"{amount:g}"


def memory_table(roles: tuple[RolePlan, ...]) -> Table:
    """One line a role: what each of its ranks needs (GiB)."""
    table = Table(title="Memory (GiB a rank)", title_justify="left")
    for name in ("role", "ranks", "on", "param.", "grad.", "optim.", "KV", "sum"):
        table.add_column(name, justify="left" if name in ("role", "on") else "right", no_wrap=True)
    for plan in roles:
        sizes = (plan.parameters_gib, plan.gradients_gib, plan.optimizer_gib, plan.kv_cache_gib, plan.total_gib)
        table.add_row(plan.role, str(plan.actors * plan.ranks), plan.device, *(f"{size:.2f}" for size in sizes))
    return table


def store_line(store: StorePlan) -> str:
    """The object store in one line."""
    return (
        f"object store: weights {store.versions} versions × {store.version_gib:.2f} GiB, rollouts under way"
        f" ({store.rollouts}) at most {store.rollouts_gib:.2f} GiB, media unknown (the data are not read yet);"
        f" {store.total_gib:.2f} of {store.size_gib:.2f} GiB a node"
    )


def stage_table(recipe: Recipe) -> Table:
    """The figures that the recipe names, with the source of each."""
    table = Table(title="Figures and their sources", title_justify="left")
    for name in ("key", "source"):
        table.add_column(name)
    for key, source in recipe.sources.items():
        table.add_row(key, source)
    return table


def gate_lines(recipe: Recipe) -> list[str]:
    """What the data pass through before anything is taught, in words."""
    gates, duplicates = recipe.data.gates, recipe.data.duplicates
    lines = ["gates: none, every item is taken as it is"]
    if gates is not None:
        asked = [*gates.rules, *(["rubric"] if gates.rubric else [])]
        asked += [f"image_necessity ({gates.blank_samples} samples)"] if gates.blank_samples else []
        lines = [f"gates: {', '.join(asked) or 'no rule'}"]
        lines += [f"  licences let in by name: {', '.join(gates.licences)}"] if gates.licences else []
        lines += [f"  teacher: {gates.teacher.kind} {gates.teacher.model}"] if gates.teacher else []
        lines += [f"  overruled by {gates.overrules}"] if gates.overrules else []
    if duplicates is None:
        return [*lines, "duplicates: not looked for"]
    benchmarks = dict.fromkeys((*recipe.evaluation.datasets, *duplicates.benchmarks))
    pictures = "equal files" if duplicates.hash_distance is None else f"within {duplicates.hash_distance} bits"
    repeats = "left out" if duplicates.within_split else "kept"
    lines.append(f"duplicates: pictures {pictures}; repeats within a split {repeats}, leaks between splits left out")
    lines += [f"  overruled by {duplicates.overrules}"] if duplicates.overrules else []
    return [*lines, f"contamination: compared with {', '.join(benchmarks) or 'no benchmark'}"]


def report_findings(findings: Findings, recipe: Recipe, as_json: bool) -> None:
    """Print the plan and notes; raises BadInputError with every mistake at once."""
    if as_json:
        print_json(
            {
                "ok": not findings.mistakes,
                "mistakes": [str(mistake) for mistake in findings.mistakes],
                "notes": list(findings.notes),
                "gates": gate_lines(recipe),
                "roles": [
                    {
                        "role": plan.role,
                        "actors": plan.actors,
                        "max_actors": plan.most_actors,
                        "ranks": plan.ranks,
                        "cpus": plan.seat.cpus,
                        "gpus": plan.seat.gpus,
                        "goes_to": places(plan.seat, findings.node_types),
                        "device": plan.device,
                        "total_gib": round(plan.total_gib, 3),
                    }
                    for plan in findings.roles
                ],
                "node_types": [
                    {
                        "types": list(load.types),
                        "max_nodes": load.max_nodes,
                        "roles": list(load.roles),
                        "cpus": [load.cpus, load.most_cpus, None if math.isinf(load.has_cpus) else load.has_cpus],
                        "gpus": [load.gpus, load.most_gpus, None if math.isinf(load.has_gpus) else load.has_gpus],
                    }
                    for load in node_loads(findings.demands, findings.node_types or ())
                ],
                "object_store": None
                if findings.store is None
                else {**asdict(findings.store), "media_gib": None, "total_gib": findings.store.total_gib},
            }
        )
    else:
        console.print(place_table(findings))
        if findings.node_types is not None:
            console.print(type_table(findings))
        console.print(memory_table(findings.roles))
        if findings.store is not None:
            console.print(store_line(findings.store), highlight=False)
        for line in gate_lines(recipe):
            console.print(line, highlight=False, markup=False)
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
