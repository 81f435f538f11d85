"""A dataset or a run → a folder that another tool trains on: rows by split, images, README; whole or not at all."""

import errno
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq

from residency.platform.dataset_folder import ITEMS_FILE
from residency.platform.errors import BadInputError, DataError, StorageError
from residency.platform.media_store import MediaStore
from residency.synthesis.exports.chat_formats import Form, FormatName, dataset_info, format_row, image_name
from residency.synthesis.exports.data_card import Tally, file_name, write_card
from residency.synthesis.exports.export_rows import ExportSource, find_source

FORMATS: dict[FormatName, str] = {
    "openai": "OpenAI messages, one chat a line; TRL's SFTTrainer reads them",
    "sharegpt": "conversations with <image> marks and dataset_info.json; LLaMA-Factory reads them",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOutcome:
    """What was written: rows by split, and images."""

    out: Path
    rows: int
    images: int
    splits: dict[str, int]
    targets: dict[str, int]


def export(
    source: Path, name: str, out: Path, inline: bool = False, on_row: Callable[[], None] | None = None
) -> ExportOutcome:
    """Write the folder ``out``; images are stored once, however many rows show them.

    Raises BadInputError for an unknown format, data URLs in a format that has none, a source that is neither dataset
    nor run, or an ``out`` that exists; DataError where an image is missing or damaged; StorageError on a full disk.
    """
    if name not in FORMATS:
        raise BadInputError(f"export format {name!r}", f"one of {', '.join(FORMATS)}")
    if inline and name != "openai":
        raise BadInputError(f"images within the rows of {name}", "openai: the other format names files", "leave it out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"{out} exists already", "a new folder", "choose another one, or remove it")
    found = find_source(source)
    form = Form(name, shows_images(found), inline)
    aside = out.with_name(f"{out.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)  # left by a process that was killed
        aside.mkdir(parents=True)
        tally = write_rows(found, form, aside, on_row)
        if not tally.rows:
            raise DataError(f"{source} has no rows", "a dataset with items, or a run with examples")
        if name == "sharegpt":
            info = dataset_info(file_name(found.name), sorted(tally.by["split"]), form.has_images)
            (aside / "dataset_info.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        (aside / "README.md").write_text(write_card(found, form, tally), encoding="utf-8")
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StorageError(
                f"cannot write {out}: {error.strerror}", "room on the disk", "free some space, or write elsewhere"
            ) from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return ExportOutcome(
        out=out,
        rows=tally.rows,
        images=tally.images,
        splits=dict(tally.by["split"]),
        targets=dict(tally.by["target"]),
    )


def shows_images(source: ExportSource) -> bool:
    """Whether any row has an image; only that column is read."""
    with pq.ParquetFile(source.examples or source.items / ITEMS_FILE) as file:
        return any(any(batch.column("media").to_pylist()) for batch in file.iter_batches(columns=["media"]))


def write_rows(source: ExportSource, form: Form, folder: Path, on_row: Callable[[], None] | None) -> Tally:
    """One file a split, and every image that a row shows."""
    tally = Tally()
    files: dict[str, IO[str]] = {}
    with ExitStack() as opened:
        for row in source.rows():
            split = row.split.value
            if split not in files:
                files[split] = opened.enter_context((folder / f"{split}.jsonl").open("w", encoding="utf-8"))
            line = format_row(row, form, source.media)
            files[split].write(json.dumps(line, ensure_ascii=False) + "\n")
            tally.add(row)
            if not form.inline:
                tally.images += sum(copy_image(source.media, key, folder / image_name(key)) for key in row.media)
            if on_row is not None:
                on_row()
    return tally


def copy_image(media: MediaStore, key: str, place: Path) -> bool:
    """Write the image unless it is there; its content is checked against its name on the way."""
    if place.exists():
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(media.read_png(key))
    return True
