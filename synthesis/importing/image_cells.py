"""An image as a row names it → encoded bytes or a file of the source's folder. Nothing is fetched."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from residency.synthesis.benchmarks.published_files import UnusableRow, image_file


def images_of(value: Any, folders: Sequence[Path]) -> tuple[bytes | Path, ...]:
    """All images of a cell: one, a list of them, or a list written as JSON; raises UnusableRow where one is unfit."""
    if value is None or value == "":
        return ()
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise UnusableRow("its image list is not JSON", value[:80]) from None
    if isinstance(value, (list, tuple)):
        return tuple(image_of(one, folders) for one in value)
    return (image_of(value, folders),)


def image_of(value: Any, folders: Sequence[Path]) -> bytes | Path:
    """One image: bytes, a Hugging Face cell ``{"bytes", "path"}``, a data URL, or a file name within the folders."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return value
    if not isinstance(value, str) or not value.strip():
        raise UnusableRow("no image in the row", repr(value)[:80])
    name = value.strip()
    scheme, mark, rest = name.partition(":")
    match scheme.lower():
        case "data" if mark:
            return data_url(rest)
        case "http" | "https" | "ftp" | "s3" | "gs" | "hf" if mark:
            raise UnusableRow("its image is a web address: nothing is fetched", name[:120])
        case "file" if mark:
            name = unquote(rest.removeprefix("//").removeprefix("localhost"))
    for folder in folders:
        if Path(name).is_absolute() and Path(name).is_relative_to(folder.absolute()):
            name = str(Path(name).relative_to(folder.absolute()))
    return image_file(folders, name)


def data_url(rest: str) -> bytes:
    """The bytes of what stands after ``data:``; raises UnusableRow for what is no base64 image."""
    kind, mark, text = rest.partition(",")
    if not mark or not kind.lower().startswith("image/") or not kind.lower().endswith(";base64"):
        raise UnusableRow("its data URL is no base64 image", kind[:60])
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnusableRow("its data URL is no base64 image", "broken base64") from None
