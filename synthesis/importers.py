"""The formats that ``residency import`` and recipes know: name → function and one line of description.

Published benchmarks stand apart (``BENCHMARKS``): they have variants, and their report says what was refused. So do the
formats that are read row by row (``ROW_FORMATS``): a user says by options what their columns mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from residency.platform.errors import BadInputError
from residency.platform.recipe import DataConfig
from residency.synthesis.benchmarks import exam, med_mcqa, med_qa, pubmed_qa
from residency.synthesis.benchmarks.importing import Benchmark
from residency.synthesis.benchmarks.med_xpert_qa import MED_XPERT_QA
from residency.synthesis.benchmarks.mmmu_med import MMMU_MED
from residency.synthesis.benchmarks.omni_med_vqa import OMNI_MED_VQA
from residency.synthesis.benchmarks.path_vqa import PATH_VQA
from residency.synthesis.benchmarks.pmc_vqa import PMC_VQA
from residency.synthesis.benchmarks.slake import SLAKE
from residency.synthesis.benchmarks.vqa_rad import VQA_RAD
from residency.synthesis.importing.captions import CAPTIONS
from residency.synthesis.importing.dicom import DICOM
from residency.synthesis.importing.feedback import FEEDBACK
from residency.synthesis.importing.openai_messages import OPENAI
from residency.synthesis.importing.sharegpt import SHAREGPT
from residency.synthesis.importing.source_row import OPTION_NAMES, RowFormat
from residency.synthesis.importing.table import TABLE
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

THE_SEVEN = (MMMU_MED, VQA_RAD, SLAKE, PATH_VQA, PMC_VQA, OMNI_MED_VQA, MED_XPERT_QA)
TEXT_SETS = (*pubmed_qa.BENCHMARKS, *med_qa.BENCHMARKS, *med_mcqa.BENCHMARKS, *exam.BENCHMARKS)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in (*THE_SEVEN, *TEXT_SETS)}

ROW_FORMATS: dict[str, RowFormat] = {one.name: one for one in (SHAREGPT, OPENAI, TABLE, CAPTIONS, DICOM, FEEDBACK)}


def list_formats() -> list[str]:
    """One line for each format: its name and what it is, sorted by name."""
    return [f"{name:<14}{FORMATS[name].description}" for name in sorted(FORMATS)]


def list_row_formats() -> list[str]:
    """Two lines for each format of rows: what it is, and what it takes."""
    lines = []
    for name, row_format in ROW_FORMATS.items():
        options = " ".join(sorted(OPTION_NAMES[option] for option in row_format.options - {"columns"}))
        lines.append(f"{name:<14}{row_format.description}")
        lines.append(f"{'':<14}--map {'|'.join(row_format.fields)}=COLUMN; {options}")
    return lines


def list_benchmarks() -> list[str]:
    """One line for each benchmark: title, each variant (the default first) with its published n, and licence."""
    return [f"{name:<14}{describe(benchmark)}" for name, benchmark in BENCHMARKS.items()]


def describe(benchmark: Benchmark) -> str:
    sizes = ", ".join(variant + (f" {n:,}" if n else "") for variant, n in benchmark.published.items())
    return f"{benchmark.title}: {sizes}; {benchmark.licence}"
