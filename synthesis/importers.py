"""The formats that ``residency import`` and recipes know: name → function and one line of description."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from residency.platform.errors import BadInputError
from residency.platform.recipe import DataConfig
from residency.synthesis.starter_dataset import make_starter
from residency.synthesis.voc_dataset import import_voc

# (source folder or None, folder to make, configuration, seed) → the folder that was made
ImportFunction = Callable[[Path | None, Path, DataConfig, int], Path]


@dataclass(frozen=True, slots=True)
class Importer:
    """One format; ``needs_source`` is whether a folder must be given."""

    name: str
    description: str
    needs_source: bool
    run: ImportFunction


def _starter(source: Path | None, out: Path, config: DataConfig, seed: int) -> Path:
    if source is not None:
        raise BadInputError(f"the source {source} for `starter`", "no source: it is made on the spot", "leave it out")
    return make_starter(out, config, seed)


def _voc(source: Path | None, out: Path, config: DataConfig, seed: int) -> Path:
    if source is None:
        raise BadInputError("no source for `voc`", "a Pascal VOC folder", "name the folder that holds Annotations/")
    return import_voc(source, out, config, seed)


FORMATS: dict[str, Importer] = {
    importer.name: importer
    for importer in (
        Importer("starter", "tutorial set of three families, made on the spot without a download", False, _starter),
        Importer("voc", "Pascal VOC boxes → crops with closed questions, split by picture", True, _voc),
    )
}


def list_formats() -> list[str]:
    """One line for each format: its name and what it is, sorted by name."""
    return [f"{name:<10}{FORMATS[name].description}" for name in sorted(FORMATS)]


def import_dataset(name: str, source: Path | None, out: Path, config: DataConfig, seed: int) -> Path:
    """Make the dataset folder ``out`` in the named format; raises BadInputError for an unknown name."""
    importer = FORMATS.get(name)
    if importer is None:
        raise BadInputError(f"unknown format {name!r}", f"one of {', '.join(sorted(FORMATS))}")
    return importer.run(source, out, config, seed)
