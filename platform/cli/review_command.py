"""`residency review export RUN OUT.csv` and `residency review apply RUN IN.csv`: a person looks before it is taught."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from residency.platform.cli.options import JsonOption
from residency.platform.cli.screen import console, print_json
from residency.platform.errors import BadInputError
from residency.platform.run_folder import RunFolder, write_whole

if TYPE_CHECKING:
    from residency.platform.records import Example, Item

review_app = typer.Typer(help="Examples that wait for a person: out as a sheet, in with decisions.")
RunArgument = Annotated[Path, typer.Argument(help="A run's folder (of one seed: RUN/seed-0 where there are several).")]


def read_queue(run: RunFolder) -> "tuple[dict[str, Example], dict[str, Item]]":
    """(examples that wait, and their items, both by id)."""
    import pyarrow as pa

    from residency.platform.arrow_tables import from_table
    from residency.platform.cli.conductor import seed_runs
    from residency.platform.dataset_folder import stream_items
    from residency.platform.records import Example
    from residency.synthesis.lineage.pool_file import read_pool
    from residency.synthesis.review.waiting import queued, read_decisions

    if parts := seed_runs(run.path):
        raise BadInputError(f"{run.path} has {len(parts)} seeds", "one of them", f"give for example {parts[0].path}")
    if not (run.path / "recipe.yaml").is_file():
        raise BadInputError(f"{run.path} is no run", "a run's folder, with recipe.yaml")
    recipe, pool = run.recipe(), read_pool(run.path)
    waiting = queued(pool, recipe.synthesis.review, recipe.seeds[0]) - read_decisions(run.path).keys()
    rows = pa.array([key in waiting for key in pool.column("id").to_pylist()], pa.bool_())
    examples = {example.id: example for example in from_table(pool.filter(rows), Example)}
    wanted = {example.item_id for example in examples.values()}
    return examples, {item.id: item for item in stream_items(run.data) if item.id in wanted}


@review_app.command("export")
def export_sheet(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(help="The CSV file to write.")],
    as_json: JsonOption = False,
) -> None:
    """Write a row for each example that waits; fill in decision, reviewer, time, and edited_completion for an edit."""
    from residency.synthesis.review.sheet import write_sheet

    folder = RunFolder(run)
    examples, items = read_queue(folder)
    text = write_sheet(examples.values(), items, folder.data / "media")
    write_whole(out, lambda aside: aside.write_text(text, encoding="utf-8"))
    if as_json:
        print_json({"out": str(out), "waiting": len(examples)})
    else:
        console.print(f"{len(examples)} examples wait: {out}", highlight=False, markup=False)


@review_app.command("apply")
def apply_sheet(
    run: RunArgument,
    sheet: Annotated[Path, typer.Argument(help="The sheet with decisions.")],
    as_json: JsonOption = False,
) -> None:
    """Take decisions in, all or none of a sheet, and draw the mixture again."""
    import pyarrow as pa

    from residency.platform.arrow_tables import to_table, write_parquet
    from residency.platform.cli.remixing import remix, sft_has_begun
    from residency.platform.records import Example
    from residency.synthesis.lineage.pool_file import edits_path, read_edits
    from residency.synthesis.review.sheet import read_sheet
    from residency.synthesis.review.waiting import write_decisions

    folder = RunFolder(run)
    examples, items = read_queue(folder)
    if sft_has_begun(folder):
        remix(folder, folder.recipe(), folder.recipe().seeds[0])  # says why not, before anything is written
    try:
        text = sheet.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{sheet} cannot be read: {error}", "the CSV file, in UTF-8") from error
    found = read_sheet(text, examples, items)
    if found.edits:
        table = pa.concat_tables([read_edits(folder.path), to_table(found.edits, Example)])
        write_parquet(table, edits_path(folder.path))
    write_decisions(folder.path, found.decisions)
    report = remix(folder, folder.recipe(), folder.recipe().seeds[0])
    counts = {name: sum(one.decision == name for one in found.decisions) for name in ("accept", "edit", "reject")}
    left = len(examples) - len(found.decisions)
    if as_json:
        print_json({**counts, "waiting": left, "mixture": report.total})
    else:
        said = ", ".join(f"{number} {name}" for name, number in counts.items())
        console.print(f"{said}; {left} still wait; the mixture has {report.total} examples", highlight=False)
