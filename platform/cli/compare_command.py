"""`residency compare RUN_A RUN_B`: paired, question by question, where both were asked the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from residency.platform.cli.options import JsonOption
from residency.platform.cli.screen import comparison_table, console, print_json
from residency.platform.errors import BadInputError, DataError
from residency.platform.run_folder import RunFolder

if TYPE_CHECKING:
    import polars as pl

    from residency.training.evaluation.compare_runs import SittingKey


def outcomes_by_key(path: Path, profile: str) -> "dict[SittingKey, pl.DataFrame]":
    """Outcomes of all sittings of a run under a profile, its seeds stacked; scored from predictions where need be."""
    import polars as pl

    from residency.platform.cli.conductor import seed_runs
    from residency.platform.cli.stages.scoring import outcomes_of
    from residency.platform.cli.stages.sittings import read_sittings
    from residency.training.evaluation.compare_runs import SittingKey
    from residency.training.evaluation.scoring.profiles import find_profile

    run = RunFolder(path)
    if not (path / "recipe.yaml").is_file():
        raise BadInputError(f"{path} is no run", "a run's folder, with recipe.yaml", "give the --run of an evaluation")
    parts: dict[SittingKey, list[pl.DataFrame]] = {}
    for one in seed_runs(path) or [run]:
        recipe, hashes = one.recipe(), read_sittings(one)
        for sitting, outcomes in outcomes_of(recipe, one, profile).items():
            key = SittingKey(
                checkpoint=sitting.checkpoint, dataset=sitting.board, dataset_hash=hashes[sitting],
                prompt_mode=sitting.prompt_mode.value, decoding=sitting.decoding, image=sitting.image,
                profile=find_profile(profile).label,
            )  # fmt: skip
            parts.setdefault(key, []).append(outcomes)
    if not parts:
        raise DataError(f"{path} has no kept predictions", "a run that was evaluated", "`residency evaluate` it first")
    return {key: pl.concat(frames) for key, frames in parts.items()}


def compare_command(
    run_a: Annotated[Path, typer.Argument(help="A run's folder.")],
    run_b: Annotated[Path, typer.Argument(help="Another run's folder.")],
    profile: Annotated[str, typer.Option(help="The scoring profile: strict or medevalkit.")] = "strict",
    markdown: Annotated[Path | None, typer.Option(help="Also write the table as Markdown to this file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """A minus B on the same questions: differences with their intervals, and what could not be compared and why."""
    from residency.training.evaluation.compare_runs import compare_runs
    from residency.training.evaluation.markdown import markdown_comparisons

    a, b = outcomes_by_key(run_a, profile), outcomes_by_key(run_b, profile)
    found = compare_runs(a, b, a_name=run_a.name or str(run_a), b_name=run_b.name or str(run_b))
    if markdown is not None:
        markdown.write_text(markdown_comparisons(found.rows))
    if as_json:
        refused = [{"sitting": one.sitting, "reason": one.reason} for one in found.refused]
        print_json({"comparisons": list(found.rows), "not_compared": refused})
    else:
        if found.rows:
            console.print(comparison_table(list(found.rows)))
        for one in found.refused:
            console.print(f"[dim]not compared: {one.sitting}: {one.reason}[/]", highlight=False)
    if not found.rows:
        raise DataError(
            f"{run_a} and {run_b} share no sitting", "the same questions, prompts, decoding and images", "see above"
        )
