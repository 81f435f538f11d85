"""One row as each format writes it: OpenAI messages (which TRL reads), and ShareGPT as LLaMA-Factory reads it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from residency.platform.media_store import MediaStore
from residency.platform.prompts import IMAGE_MARKER
from residency.synthesis.exports.export_rows import ExportRow

FormatName = Literal["openai", "sharegpt"]
IMAGE_FOLDER, BESIDE_COLUMN = "images", "residency"
SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}


@dataclass(frozen=True, slots=True)
class Form:
    """How rows are written. ``has_images``: whether any row of the export has one, since TRL's messages must all be of
    one shape; ``inline``: images as data URLs within the messages (openai only), else as files beside."""

    name: FormatName
    has_images: bool
    inline: bool = False


def image_name(key: str) -> str:
    return f"{IMAGE_FOLDER}/{key[:2]}/{key}.png"


def placed_images(text: str, num_images: int) -> list[str]:
    """The text in pieces, an image between each two: by its markers where they are as many, else all images first."""
    pieces = text.split(IMAGE_MARKER)
    return pieces if len(pieces) - 1 == num_images else [*[""] * num_images, "".join(pieces)]


def format_row(row: ExportRow, form: Form, media: MediaStore) -> dict[str, Any]:
    """The row as one JSON object, with the item's own record beside it."""
    return (sharegpt_row(row) if form.name == "sharegpt" else openai_row(row, form, media)) | {
        BESIDE_COLUMN: row.beside
    }


def sharegpt_row(row: ExportRow) -> dict[str, Any]:
    """``conversations`` of from and value, each image a marker in the text, and ``images`` by name."""
    turns, waiting = [], len(row.media)
    for role, text in row.messages:
        value = IMAGE_MARKER.join(placed_images(text, waiting)) if role == "user" else without_markers(text)
        waiting = 0 if role == "user" else waiting
        turns.append({"from": SHAREGPT_ROLES[role], "value": value})
    return {"conversations": turns, "images": [image_name(key) for key in row.media]}


def without_markers(text: str) -> str:
    """An answer that speaks of a marker would be taken for one more image."""
    return text.replace(IMAGE_MARKER, "")


def openai_row(row: ExportRow, form: Form, media: MediaStore) -> dict[str, Any]:
    """``messages``, and ``images`` beside them unless they stand within as data URLs."""
    messages, waiting = [], row.media
    for role, text in row.messages:
        if not form.has_images:
            messages.append({"role": role, "content": text})
            continue
        shown: Sequence[str] = waiting if role == "user" else ()
        waiting = () if role == "user" else waiting
        messages.append({"role": role, "content": message_parts(text, shown, media if form.inline else None)})
    beside = {"images": [image_name(key) for key in row.media]} if form.has_images and not form.inline else {}
    return {"messages": messages, **beside}


def message_parts(text: str, shown: Sequence[str], inline_from: MediaStore | None) -> list[dict[str, Any]]:
    """Content in parts; an image is a data URL, or a bare part that stands for the next image of the row's column."""
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(placed_images(text, len(shown))):
        if number and inline_from is not None:
            encoded = base64.b64encode(inline_from.read_png(shown[number - 1])).decode()
            parts.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}})
        elif number:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def dataset_info(name: str, splits: Sequence[str], has_images: bool) -> dict[str, Any]:
    """The entries for LLaMA-Factory's ``dataset_info.json``, one a file."""
    columns = {"messages": "conversations"} | ({"images": "images"} if has_images else {})
    tags = {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "system_tag": "system",
    }
    return {
        f"{name}_{split}": {"file_name": f"{split}.jsonl", "formatting": "sharegpt", "columns": columns, "tags": tags}
        for split in splits
    }
