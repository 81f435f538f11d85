"""`residency trace EXAMPLE_ID --run RUN`: the story of one example."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from residency.platform.cli.options import JsonOption
from residency.platform.cli.screen import console, print_json
from residency.platform.errors import BadInputError
from residency.platform.recipe_file import read_yaml

NEAREST = 5


def trace_command(
    example_id: Annotated[str, typer.Argument(help="An example's id, as examples.parquet and exports name it.")],
    run: Annotated[Path, typer.Option("--run", help="The run's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Source row, licence, gates, every trace with its verdict and cost, review, mixture, and RL steps."""
    story = find_story(run, example_id)
    if as_json:
        print_json(story)
    else:
        show(story)


def find_story(run: Path, example_id: str) -> dict[str, Any]:
    """The story, from whichever seed of the run has the example; raises BadInputError with the nearest ids."""
    from rapidfuzz import process

    from residency.platform.cli.conductor import seed_runs
    from residency.synthesis.lineage.pool_file import known_ids
    from residency.synthesis.lineage.story import tell_story

    if not (run / "recipe.yaml").is_file():
        raise BadInputError(f"{run} is no run", "a run's folder, with recipe.yaml", "give it with --run")
    known: list[str] = []
    for part in [one.path for one in seed_runs(run)] or [run]:
        recipe = read_yaml(part / "recipe.yaml").get("recipe") or {}
        seed = (recipe.get("seeds") or [0])[0]
        story = tell_story(part, example_id, recipe.get("synthesis") or {}, seed)
        if story is not None:
            return {"run": str(part), **story}
        known += known_ids(part)
    if not known:
        raise BadInputError(f"{run} has no examples yet", "a run whose synthesis is done", "let it go on first")
    nearest = ", ".join(match[0] for match in process.extract(example_id, known, limit=NEAREST))
    raise BadInputError(f"{run} has no example {example_id!r}", f"one of its {len(known)}", f"the nearest: {nearest}")


def pairs_table(title: str, row: dict[str, Any]) -> Table:
    """One thing's fields; what is empty is left out."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in row.items():
        if value not in (None, "", [], {}):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            table.add_row(name.replace("_", " "), escape(shown))
    return table


def show(story: dict[str, Any]) -> None:
    """The story in tables, in the order in which it happened."""
    gates = story["gates"]
    console.print(pairs_table("Item", story["item"]))
    if gates is None:
        console.print("[dim]gates: the run's recipe asked none[/]")
    for gate in gates or []:
        console.print(f"gate {gate['gate']}: {gate['outcome']}, {escape(gate['reason'])}", highlight=False)
    if story["outcome"]:
        console.print(pairs_table("Sampled traces came to", story["outcome"] | {"attempts": None}))
    for number, trace in enumerate(story["traces"], 1):
        used = ", used by this example" if trace["used"] else ""
        console.print(pairs_table(f"Trace {number} of {len(story['traces'])}{used}", trace | {"used": None}))
    console.print(pairs_table("Example", story["example"]))
    review, mixture = story["review"], story["mixture"]
    console.print(pairs_table("Review", {"state": review["state"], **(review["decision"] or {})}))
    if mixture["place"] is None:
        console.print(f"mixture: not drawn (of {mixture['size']} that were)", highlight=False)
    else:
        console.print(f"mixture: example {mixture['place'] + 1} of {mixture['size']}", highlight=False)
    steps = ", ".join(f"{row['step']}" for row in story["rl"])
    console.print(f"RL steps with its item: {steps or 'none'}", highlight=False)
