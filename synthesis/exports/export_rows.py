"""What is exported, one row a chat: the items of a dataset, or the SFT examples of a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from residency.platform.arrow_tables import check_schema_version, from_table
from residency.platform.dataset_folder import CARD_FILE, MEDIA_FOLDER, DatasetCard, read_card, stream_items
from residency.platform.errors import BadInputError, DataError
from residency.platform.media_store import MediaStore
from residency.platform.prompts import render_completion, render_prompt
from residency.platform.recipe_file import read_yaml
from residency.platform.records import Example, Item, PromptMode, Split, Target
from residency.platform.run_folder import RunFolder
from residency.synthesis.exports.item_json import item_to_json

ROWS_AT_ONCE = 1000
REPORTS = ("gates", "duplicates", "contamination")  # parts of a run's summary that a reader of the data must see


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRow:
    """One chat.

    ``messages`` are (role, text) with roles system, user and assistant; the images, by hash, belong to the first user
    message. ``beside`` is the JSON text of the item it is about; what follows is counted on the card.
    """

    split: Split
    messages: tuple[tuple[str, str], ...]
    media: tuple[str, ...]
    beside: str
    target: str
    family: str
    source: str
    licence: str
    modality: str
    names_patient: bool
    taught_from: int = 0  # characters of the last answer before the loss begins


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportSource:
    """A dataset or a run that can be exported."""

    name: str
    card: DatasetCard
    media: MediaStore
    items: Path  # the dataset folder
    examples: Path | None = None
    made: Mapping[str, Any] = field(default_factory=dict)  # of a run: recipe's parts, synthesis counts
    reports: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> Iterator[ExportRow]:
        """The rows in the order of the file; each call begins anew."""
        if self.examples is None:
            return map(item_row, stream_items(self.items))
        return example_rows(self.examples, self.items)


def find_source(path: Path) -> ExportSource:
    """The dataset or run in a folder; raises BadInputError where it is neither, or a run without examples yet."""
    if (path / CARD_FILE).is_file():
        card = read_card(path)
        return ExportSource(name=card.name, card=card, media=MediaStore(path / MEDIA_FOLDER), items=path)
    if not (path / "recipe.yaml").is_file():
        raise BadInputError(f"{path} is neither a dataset nor a run", "a folder with dataset.yaml or recipe.yaml")
    run = RunFolder(path)
    if not run.examples.is_file():
        raise BadInputError(f"{path} has no examples yet", "a run whose synthesis is done", "let it go on first")
    # as it was written: a run of an older Residency can be exported too
    recipe, summary = read_yaml(path / "recipe.yaml").get("recipe") or {}, run.summary()
    card = read_card(run.data)
    return ExportSource(
        name=path.resolve().name,
        card=card,
        media=MediaStore(run.data / MEDIA_FOLDER),
        items=run.data,
        examples=run.examples,
        made={
            "recipe": {name: recipe.get(name) for name in ("synthesis", "mixture")},
            "synthesis": summary.get("synthesis", {}),
        },
        reports={name: summary[name] for name in REPORTS if summary.get(name)},
    )


def item_row(item: Item) -> ExportRow:
    """The item's own question and answer; with the reasoning where its source had one."""
    reasoning, system = str(item.metadata.get("reasoning") or ""), str(item.metadata.get("system") or "")
    mode = PromptMode.THINK if reasoning else PromptMode.DIRECT
    said = (("user", render_prompt(item, mode)), ("assistant", render_completion(item.answer, mode, reasoning)))
    return ExportRow(
        split=item.split,
        messages=((("system", system), *said) if system else said),
        media=item.media,
        beside=item_to_json(item),
        target=(Target.COT if reasoning else Target.DIRECT).value,
        **counted(item),
    )


def counted(item: Item) -> dict[str, Any]:
    """What the card counts of an item."""
    modality = str(item.metadata.get("modality") or "not said")
    return {
        "family": item.family.value,
        "source": item.source,
        "licence": item.licence,
        "modality": modality,
        "names_patient": item.patient_id is not None,
    }


def example_rows(examples: Path, dataset: Path) -> Iterator[ExportRow]:
    """The examples of a run in their order; the items are held in memory, to tell source and licence."""
    items = {item.id: item for item in stream_items(dataset)}
    with pq.ParquetFile(examples) as file:
        check_schema_version(file.schema_arrow.metadata, str(examples))
        for batch in file.iter_batches(ROWS_AT_ONCE):
            for example in from_table(pa.Table.from_batches([batch]), Example):
                yield example_row(example, items.get(example.item_id))


def example_row(example: Example, item: Item | None) -> ExportRow:
    if item is None:
        raise DataError(
            f"example {example.id} is of the item {example.item_id}, which the run's data lacks", "its item"
        )
    taught = {
        "id": example.id,
        "target": example.target.value,
        "pattern": example.pattern,
        "error_kind": example.error_kind,
        "loss_start": example.loss_start,
        "from_traces": list(example.from_traces),
    }
    return ExportRow(
        split=item.split,
        messages=tuple((message["role"], message["content"]) for message in example.messages),
        media=example.media,
        beside=item_to_json(item, example=taught),
        target=example.target.value,
        taught_from=example.loss_start,
        **counted(item),
    )
