"""ShareGPT chats as LLaMA-Factory, LLaVA and PubMedVision write them: JSON or JSONL, images by name, `<image>`."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from residency.synthesis.benchmarks.importing import Refused
from residency.synthesis.benchmarks.published_files import Record, UnusableRow
from residency.synthesis.importing.chat_rows import Turn, answer_rows, list_of, restored_item, role_of
from residency.synthesis.importing.column_map import Columns, cells, with_defaults
from residency.synthesis.importing.image_cells import images_of
from residency.synthesis.importing.row_facts import FACT_ALIASES, FACT_FIELDS, image_folders, read_facts, read_labels
from residency.synthesis.importing.row_files import read_rows
from residency.synthesis.importing.row_reading import checked_rows, expand
from residency.synthesis.importing.source_row import ReadOptions, RowFormat, SourceRow

FIELDS = ("messages", "images", "system", *FACT_FIELDS)
ALIASES = {
    "messages": ("conversations", "messages", "conversation", "conversatons"),  # LLaVA-Med's files have the last one
    "images": ("images", "image"),
    "system": ("system",),
    **FACT_ALIASES,
}
PREFERENCE = ("chosen", "rejected")


def read_sharegpt(source: Path, options: ReadOptions) -> Iterator[SourceRow | Refused]:
    """The rows of the chats, one for each answer."""
    folders = image_folders(source, options)
    return expand(checked_rows(read_rows(source), source, options), partial(chat, options=options, folders=folders))


def chat(record: Record, options: ReadOptions, folders: Sequence[Path]) -> Iterator[SourceRow]:
    columns = with_defaults(options.columns, list(record.fields), ALIASES)
    if all(record.fields.get(name) for name in PREFERENCE):
        raise UnusableRow("it is a preference pair, not an answer")
    images = tuple(image for cell in cells(record.fields, columns, "images") for image in images_of(cell, folders))
    turns = turns_of(record, columns)
    facts = read_facts(record, columns, options)
    yield from answer_rows(turns, images, facts, read_labels(record, columns), restored_item(record.fields))


def turns_of(record: Record, columns: Columns) -> list[Turn]:
    """The messages in either spelling: ``from``/``value`` or ``role``/``content``."""
    found = cells(record.fields, columns, "messages")
    turns = [Turn("system", str(text)) for text in cells(record.fields, columns, "system")]
    for message in list_of(found[0] if found else None, "messages"):
        if not isinstance(message, Mapping):
            raise UnusableRow("a message is no object", repr(message)[:80])
        turns.append(Turn(role_of(first_of(message, ("from", "role"))), text_of_content(message)))
    return turns


def first_of(message: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((message[name] for name in names if message.get(name) is not None), None)


def text_of_content(message: Mapping[str, Any]) -> str:
    text = first_of(message, ("value", "content"))
    if message.get("tool_calls"):
        raise UnusableRow("it calls tools")
    if not isinstance(text, str):
        raise UnusableRow("a message has no text (for content in parts there is the format openai)", repr(text)[:80])
    return text


SHAREGPT = RowFormat(
    name="sharegpt",
    description="chats of LLaMA-Factory, LLaVA, PubMedVision (conversations or messages, images, <image>)",
    files="a .json or .jsonl file (also .parquet) of chats, or the folder that holds it",
    fields=FIELDS,
    options=frozenset({"columns", "images", "salt"}),
    read=read_sharegpt,
)
