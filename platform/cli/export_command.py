"""`residency export RUN|DATASET FORMAT OUT`: training data as another tool reads it, with a card."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from residency.platform.cli.options import JsonOption
from residency.platform.cli.screen import Screen, console, print_json


def export_command(
    source: Annotated[Path, typer.Argument(help="A run's folder (its SFT examples) or a dataset's (its items).")],
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help="openai (TRL) or sharegpt (LLaMA-Factory).")],
    out: Annotated[Path, typer.Argument(help="The folder to write; must not exist.")],
    inline: Annotated[
        bool, typer.Option("--inline-images", help="Images as data URLs within the rows (openai), not as files.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write rows, images and a README that counts them by family, target, modality, source and licence."""
    from residency.synthesis.exports.exporting import export

    screen = Screen(quiet=as_json)
    with screen.live(), screen.steps(f"export {format_name}", 0, "rows") as steps:
        outcome = export(source, format_name, out, inline, steps.advance)
    if as_json:
        print_json(asdict(outcome) | {"out": str(outcome.out)})
        return
    splits = ", ".join(f"{count} {name}" for name, count in sorted(outcome.splits.items()))
    targets = ", ".join(f"{count} {name}" for name, count in sorted(outcome.targets.items()))
    console.print(f"{outcome.rows} chats ({splits}; {targets}), {outcome.images} image files", highlight=False)
    console.print(f"{outcome.out}: read README.md before you pass it on", highlight=False, markup=False)
