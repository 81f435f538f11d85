"""`residency import FORMAT SOURCE OUT`: a dataset folder out of a known format or a published benchmark."""

from pathlib import Path
from typing import Annotated

import typer

from residency.platform.cli.screen import Screen, console
from residency.platform.errors import BadInputError
from residency.platform.recipe import DataConfig


def import_command(
    format_name: Annotated[str | None, typer.Argument(metavar="FORMAT", help="A known format; see --list.")] = None,
    source: Annotated[Path | None, typer.Argument(help="The folder or file to read.")] = None,
    out: Annotated[Path | None, typer.Argument(help="The dataset folder to write; must not exist.")] = None,
    variant: Annotated[
        str | None, typer.Option(help="Which split of a benchmark; the first that --list names.")
    ] = None,
    train: Annotated[int, typer.Option(help="Items for training (voc).")] = 1500,
    tune: Annotated[int, typer.Option(help="Items for choosing (voc).")] = 300,
    held_out: Annotated[int, typer.Option(help="Items for claiming (voc).")] = 450,
    image_size: Annotated[int, typer.Option(help="Edge of a crop (voc, pixels).")] = 84,
    seed: Annotated[int, typer.Option(help="The same seed gives the same dataset (voc).")] = 0,
    list_them: Annotated[bool, typer.Option("--list", help="Say which formats and benchmarks are known.")] = False,
) -> None:
    """Turn a folder of a known format, or the files of a published benchmark, into a dataset."""
    from residency.platform.dataset_folder import read_dataset
    from residency.synthesis.importers import BENCHMARKS, FORMATS, list_benchmarks, list_formats

    if list_them:
        for line in (*list_formats(), *list_benchmarks()):
            console.print(line, highlight=False, markup=False)
        return
    if format_name is None or source is None or out is None:
        raise BadInputError("FORMAT, SOURCE and OUT are wanted", "", "residency import voc FOLDER OUT, or --list")
    if format_name not in FORMATS and format_name not in BENCHMARKS:
        raise BadInputError(f"format {format_name!r} is not known", f"one of {', '.join((*FORMATS, *BENCHMARKS))}")
    if out.exists():
        raise BadInputError(f"{out} exists", "a new folder", "give another name, or remove it")
    if format_name in BENCHMARKS:
        import_published(format_name, source, out, variant)
        return
    if variant is not None:
        raise BadInputError(f"--variant {variant} for `{format_name}`", "no variant: only benchmarks have them")
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


def import_published(name: str, source: Path, out: Path, variant: str | None) -> None:
    """Import one variant of a benchmark and say what was taken, what was refused, and whether n is as published."""
    from residency.synthesis.benchmarks.importing import import_benchmark
    from residency.synthesis.importers import BENCHMARKS

    benchmark = BENCHMARKS[name]
    wanted = variant or benchmark.default_variant
    screen = Screen()
    with screen.live(), screen.steps(f"{name} {wanted}", benchmark.published.get(wanted) or 0, "rows") as steps:
        report = import_benchmark(benchmark, source, wanted, out, steps.advance)
    first, *rest = report.lines()
    console.print(first, style="yellow" if report.difference else "", highlight=False, markup=False)
    facts = (f"answers: {report.kinds_taken()}", f"note: {benchmark.note}", f"licence: {benchmark.licence}", str(out))
    for line in (*rest, *facts):
        console.print(line, highlight=False, markup=False)
