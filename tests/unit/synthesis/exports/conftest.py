"""Small datasets and a small run to export."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from residency.platform.arrow_tables import to_table, write_parquet
from residency.platform.dataset_folder import DatasetCard, write_dataset
from residency.platform.media_store import encode_png, media_hash
from residency.platform.profiles import load_profile
from residency.platform.recipe_file import load_recipe
from residency.platform.records import AnswerKind, Example, Family, Item, Split, Target
from residency.platform.run_folder import RunFolder
from residency.platform.shipped import find
from residency.synthesis.examples import direct_example, make_example
from residency.synthesis.importers import ROW_FORMATS
from residency.synthesis.importing.item_builder import ImportSettings
from residency.synthesis.importing.row_import import ImportOutcome, import_rows
from residency.synthesis.importing.source_row import ReadOptions
from residency.synthesis.importing.splits import SplitPlan

PNGS = [encode_png(Image.new("RGB", (84, 84), (shade, 40, 0))) for shade in (0, 120, 240)]
HASHES = [media_hash(png) for png in PNGS]
CARD = DatasetCard(name="tiny set", source="drawn by hand", licence="CC0", splits="by hand", skipped={"no area": 2})


def new_item(number: int, *, shows: Sequence[int] = (), split: Split = Split.TRAIN, **more: object) -> Item:
    """An item with some of the three pictures."""
    media = tuple(HASHES[picture] for picture in shows)
    known = {
        "id": Item.make_id("drawn", split, str(number)),
        "content_key": Item.make_content_key(f"{number} {split}", (), media),
        "source": "drawn",
        "split": split,
        "licence": "CC BY 4.0" if number % 2 else "unknown",
        "cluster": f"c{number}",
        "media": media,
        "question": f"how many cells are there in {number}?",
        "answer": "7",
        "answer_kind": AnswerKind.NUMBER,
        "family": Family.MEDICAL_MULTIMODAL if media else Family.TEXTUAL_REASONING,
        "metadata": {"modality": "CT"} if media else {},
    }
    return Item(**(known | more))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def make_item() -> Callable[..., Item]:
    return new_item


@pytest.fixture
def import_again() -> Callable[[str, Path, Path], ImportOutcome]:
    """``import_again(format, folder, out)`` with a name and a licence that differ from the export's."""

    def run(name: str, folder: Path, out: Path) -> ImportOutcome:
        settings = ImportSettings(name="again", licence="other", plan=SplitPlan.parse("train", 0))
        return import_rows(ROW_FORMATS[name], folder, out, ReadOptions(), settings)

    return run


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[[Sequence[Item]], Path]:
    """Writes items into a new dataset folder."""
    made = 0

    def write(items: Sequence[Item]) -> Path:
        nonlocal made
        made += 1
        return write_dataset(tmp_path / f"set-{made}", items, PNGS, CARD)

    return write


@pytest.fixture
def run_folder(tmp_path: Path) -> tuple[Path, list[Example]]:
    """A run whose synthesis is done: a direct, a thinking and a reflective example of two items."""
    items = [new_item(1, shows=[0]), new_item(2)]
    run = RunFolder(tmp_path / "run")
    run.open(load_recipe(find("recipes", "starter")), load_profile(find("profiles", "laptop")))
    write_dataset(run.data, items, PNGS, CARD)
    wrong_then_right = "<think>5, no: 7</think><answer>7</answer>"
    examples = [
        direct_example(items[0]),
        make_example(items[1], Target.COT, "<think>3 and 4</think><answer>7</answer>", from_traces=("t1",)),
        make_example(items[0], Target.REFLECTIVE, wrong_then_right, pattern="correction", loss_start=8),
    ]
    write_parquet(to_table(examples, Example), run.examples)
    run.update_summary(contamination={"pairs": 3, "benchmarks": ["vqa-rad"]}, synthesis={"kept": 3})
    return run.path, examples
