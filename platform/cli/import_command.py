"""`residency import FORMAT SOURCE OUT`: a dataset folder out of a known format or a published benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from residency.platform.cli.screen import Screen, console
from residency.platform.errors import BadInputError
from residency.platform.recipe import DataConfig
from residency.platform.records import Family

if TYPE_CHECKING:
    from residency.synthesis.importing.source_row import ReadOptions


def import_command(
    format_name: Annotated[str | None, typer.Argument(metavar="FORMAT", help="A known format; see --list.")] = None,
    source: Annotated[Path | None, typer.Argument(help="The folder or file to read.")] = None,
    out: Annotated[Path | None, typer.Argument(help="The dataset folder to write; must not exist.")] = None,
    variant: Annotated[
        str | None, typer.Option(help="Which split of a benchmark; the first that --list names.")
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="Columns of a file of rows: question=COL,answer=COL,image=A+B.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the source is called (rows); as OUT by default.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of all rows that name none (rows).")] = None,
    family: Annotated[Family | None, typer.Option(help="By images where absent (rows).")] = None,
    split: Annotated[
        str | None, typer.Option(help="train (default), or shares by patient: train=0.8,tune=0.1,held_out=0.1 (rows).")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder that image names are relative to (rows).")] = None,
    question: Annotated[str | None, typer.Option(help="What is asked of every picture (captions).")] = None,
    window: Annotated[str | None, typer.Option(help="CENTRE,WIDTH in place of the file's own (dicom).")] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="Each n-th frame; the middle one where absent (dicom).")
    ] = None,
    salt: Annotated[str | None, typer.Option(help="Patients get the same hash where the salt is the same.")] = None,
    train: Annotated[int, typer.Option(help="Items for training (voc).")] = 1500,
    tune: Annotated[int, typer.Option(help="Items for choosing (voc).")] = 300,
    held_out: Annotated[int, typer.Option(help="Items for claiming (voc).")] = 450,
    image_size: Annotated[int, typer.Option(help="Edge of a crop (voc, pixels).")] = 84,
    seed: Annotated[int, typer.Option(help="The same seed gives the same dataset (voc, --split shares).")] = 0,
    list_them: Annotated[bool, typer.Option("--list", help="Say which formats and benchmarks are known.")] = False,
) -> None:
    """Turn rows, pictures or boxes of a known format, or a published benchmark, into a dataset."""
    from residency.synthesis.importers import (
        BENCHMARKS,
        FORMATS,
        ROW_FORMATS,
        list_benchmarks,
        list_formats,
        list_row_formats,
    )
    from residency.synthesis.importing.column_map import nearest, parse_map
    from residency.synthesis.importing.source_row import ReadOptions

    if list_them:
        for line in (*list_formats(), *list_row_formats(), *list_benchmarks()):
            console.print(line, highlight=False, markup=False)
        return
    if format_name is None or source is None or out is None:
        raise BadInputError("FORMAT, SOURCE and OUT are wanted", "", "residency import voc FOLDER OUT, or --list")
    known = (*FORMATS, *ROW_FORMATS, *BENCHMARKS)
    if format_name not in known:
        raise BadInputError(
            f"format {format_name!r} is not known", f"one of {', '.join(known)}", nearest(format_name, known)
        )
    if out.exists():
        raise BadInputError(f"{out} exists", "a new folder", "give another name, or remove it")
    if variant is not None and format_name not in BENCHMARKS:
        raise BadInputError(f"--variant {variant} for `{format_name}`", "no variant: only benchmarks have them")
    if format_name in ROW_FORMATS:
        options = ReadOptions(
            columns=parse_map(columns or (), ROW_FORMATS[format_name].fields),
            images=images,
            question=question,
            window=parse_window(window),
            every=every,
            salt=salt,
        )
        import_from_rows(format_name, source, out, options, name or out.name, licence, family, split, seed)
        return
    of_rows = {"--map": columns, "--name": name, "--licence": licence, "--family": family, "--split": split,
               "--images": images, "--question": question, "--window": window, "--every": every,
               "--salt": salt}  # fmt: skip
    given = [option for option, value in of_rows.items() if value]
    if given:
        raise BadInputError(f"{', '.join(given)} for `{format_name}`", f"only for {', '.join(ROW_FORMATS)}")
    if format_name in BENCHMARKS:
        import_published(format_name, source, out, variant)
        return
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
    import_boxes(format_name, source, out, config, seed)


def import_boxes(name: str, source: Path, out: Path, config: DataConfig, seed: int) -> None:
    """Import a format that makes its own questions, and say how many."""
    from residency.platform.dataset_folder import read_dataset
    from residency.synthesis.importers import FORMATS

    FORMATS[name].run(source, out, config, seed)
    dataset = read_dataset(out)
    console.print(f"{out}: {len(dataset.items)} items", highlight=False)


def parse_window(text: str | None) -> tuple[float, float] | None:
    """``40,400`` → (40.0, 400.0); raises BadInputError for anything but two numbers, the second above 0."""
    if text is None:
        return None
    try:
        centre, width = map(float, text.split(","))
    except ValueError:
        centre, width = 0.0, 0.0
    if not width > 0:
        raise BadInputError(f"--window {text}", "CENTRE,WIDTH in the units of the file, the width above 0: 40,400")
    return centre, width


def import_from_rows(
    format_name: str,
    source: Path,
    out: Path,
    options: "ReadOptions",
    name: str,
    licence: str | None,
    family: Family | None,
    split: str | None,
    seed: int,
) -> None:
    """Import rows one by one and say what was taken and what was refused."""
    from residency.synthesis.importers import ROW_FORMATS
    from residency.synthesis.importing.item_builder import ImportSettings
    from residency.synthesis.importing.row_import import import_rows
    from residency.synthesis.importing.splits import SplitPlan

    plan = SplitPlan.parse(split or "train", seed)
    settings = ImportSettings(name=name, licence=licence or "unknown", plan=plan, family=family)
    screen = Screen()
    with screen.live(), screen.steps(format_name, 0, "rows") as steps:
        outcome = import_rows(ROW_FORMATS[format_name], source, out, options, settings, steps.advance)
    first, *rest = outcome.lines()
    console.print(first, style="yellow" if outcome.refused else "", highlight=False, markup=False)
    for line in (*rest, str(out)):
        console.print(line, highlight=False, markup=False)


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
