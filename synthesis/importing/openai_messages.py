"""OpenAI chat messages, one chat a line: text, or content in parts with images as data URLs or local files."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from residency.platform.prompts import IMAGE_MARKER
from residency.synthesis.benchmarks.importing import Refused
from residency.synthesis.benchmarks.published_files import Record, UnusableRow
from residency.synthesis.importing.chat_rows import Turn, answer_rows, list_of, restored_item, role_of
from residency.synthesis.importing.column_map import cells, with_defaults
from residency.synthesis.importing.image_cells import image_of, images_of
from residency.synthesis.importing.row_facts import FACT_ALIASES, FACT_FIELDS, image_folders, read_facts, read_labels
from residency.synthesis.importing.row_files import read_rows
from residency.synthesis.importing.row_reading import checked_rows, expand
from residency.synthesis.importing.source_row import ReadOptions, RowFormat, SourceRow

FIELDS = ("messages", "images", *FACT_FIELDS)
ALIASES = {"messages": ("messages",), "images": ("images", "image"), **FACT_ALIASES}


def read_openai(source: Path, options: ReadOptions) -> Iterator[SourceRow | Refused]:
    """The rows of the chats, one for each answer."""
    folders = image_folders(source, options)
    return expand(checked_rows(read_rows(source), source, options), partial(chat, options=options, folders=folders))


def chat(record: Record, options: ReadOptions, folders: Sequence[Path]) -> Iterator[SourceRow]:
    columns = with_defaults(options.columns, list(record.fields), ALIASES)
    beside = [image for cell in cells(record.fields, columns, "images") for image in images_of(cell, folders)]
    found = cells(record.fields, columns, "messages")
    turns: list[Turn] = []
    inside: list[bytes | Path] = []
    for message in list_of(found[0] if found else None, "messages"):
        if not isinstance(message, Mapping):
            raise UnusableRow("a message is no object", repr(message)[:80])
        if message.get("tool_calls") or message.get("function_call"):
            raise UnusableRow("it calls tools")
        text = text_and_images(message.get("content"), folders, inside)
        turns.append(Turn(role_of(message.get("role")), text))
    if inside and beside:
        raise UnusableRow("it has images in its messages and in a column beside them", "one of the two is wanted")
    facts = read_facts(record, columns, options)
    yield from answer_rows(turns, inside or beside, facts, read_labels(record, columns), restored_item(record.fields))


def text_and_images(content: Any, folders: Sequence[Path], images: list[bytes | Path]) -> str:
    """A message's text with a marker for each image part; images that the part itself names are added to ``images``."""
    if isinstance(content, str):
        return content
    pieces: list[str] = []
    for part in list_of(content, "message parts"):
        kind = part.get("type") if isinstance(part, Mapping) else None
        match kind:
            case "text" | "input_text" | "output_text":
                pieces.append(str(part.get("text") or ""))
            case "image_url" | "input_image" | "image":
                named = part.get("image_url") or part.get("image") or part.get("url") or part.get("path")
                named = named.get("url") if isinstance(named, Mapping) and "url" in named else named
                if named is not None:  # TRL's form leaves it out: the image stands in the column beside
                    images.append(image_of(named, folders))
                pieces.append(IMAGE_MARKER)
            case _:
                raise UnusableRow("a message part is neither text nor image", repr(kind)[:60])
    return "".join(pieces)  # as chat templates put them


OPENAI = RowFormat(
    name="openai",
    description="OpenAI chat messages as TRL reads them too; images as data URLs or files, never fetched",
    files="a .jsonl file (also .json, .parquet) with `messages` in each row, or the folder that holds it",
    fields=FIELDS,
    options=frozenset({"columns", "images", "salt"}),
    read=read_openai,
)
