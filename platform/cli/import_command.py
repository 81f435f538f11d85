"""`residency import FORMAT SOURCE OUT`: a dataset folder out of a known format."""

from pathlib import Path
from typing import Annotated

import typer

from residency.platform.cli.screen import console
from residency.platform.errors import BadInputError
from residency.platform.recipe import DataConfig


def import_command(
    format_name: Annotated[str | None, typer.Argument(metavar="FORMAT", help="A known format; see --list.")] = None,
    source: Annotated[Path | None, typer.Argument(help="The folder to read.")] = None,
    out: Annotated[Path | None, typer.Argument(help="The dataset folder to write; must not exist.")] = None,
    train: Annotated[int, typer.Option(help="Items for training.")] = 1500,
    tune: Annotated[int, typer.Option(help="Items for choosing.")] = 300,
    held_out: Annotated[int, typer.Option(help="Items for claiming.")] = 450,
    image_size: Annotated[int, typer.Option(help="Edge of a crop (pixels).")] = 84,
    seed: Annotated[int, typer.Option(help="The same seed gives the same dataset.")] = 0,
    list_them: Annotated[bool, typer.Option("--list", help="Say which formats are known.")] = False,
) -> None:
    """Turn a folder of a known format into a dataset."""
    from residency.platform.dataset_folder import read_dataset
    from residency.synthesis.importers import FORMATS, list_formats

    if list_them:
        for line in list_formats():
            console.print(line, highlight=False)
        return
    if format_name is None or source is None or out is None:
        raise BadInputError("FORMAT, SOURCE and OUT are wanted", "", "residency import voc FOLDER OUT, or --list")
    if format_name not in FORMATS:
        raise BadInputError(f"format {format_name!r} is not known", f"one of {', '.join(FORMATS)}")
    if out.exists():
        raise BadInputError(f"{out} exists", "a new folder", "give another name, or remove it")
    config = DataConfig.model_validate(
        {
            "format": format_name,
            "source": str(source),
            "train_items": train,
            "tune_items": tune,
            "held_out_items": held_out,
            "image_size": image_size,
        }
    )
    FORMATS[format_name].run(source, out, config, seed)
    dataset = read_dataset(out)
    console.print(f"{out}: {len(dataset.items)} items", highlight=False)
