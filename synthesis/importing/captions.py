"""A folder of pictures with a file of captions (as PubMedVision's figures have): each caption is an open answer."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from residency.platform.records import AnswerKind
from residency.synthesis.benchmarks.importing import Refused
from residency.synthesis.benchmarks.published_files import Record, UnusableRow
from residency.synthesis.importing.column_map import cells, text_of, with_defaults
from residency.synthesis.importing.image_cells import images_of
from residency.synthesis.importing.row_facts import FACT_ALIASES, FACT_FIELDS, image_folders, read_facts, read_labels
from residency.synthesis.importing.row_files import read_rows
from residency.synthesis.importing.row_reading import checked_rows, expand
from residency.synthesis.importing.source_row import ReadOptions, RowFormat, SourceRow

FIELDS = ("image", "caption", *FACT_FIELDS)
ALIASES = {
    "image": ("image", "images", "image_path", "file_name", "filename", "figure_path"),
    "caption": ("caption", "text", "description"),
    **FACT_ALIASES,
}
QUESTION = "Describe this image."


def read_captions(source: Path, options: ReadOptions) -> Iterator[SourceRow | Refused]:
    """One caption, one row."""
    folders = image_folders(source, options)
    return expand(checked_rows(read_rows(source), source, options), partial(caption, options=options, folders=folders))


def caption(record: Record, options: ReadOptions, folders: Sequence[Path]) -> list[SourceRow]:
    columns = with_defaults(options.columns, list(record.fields), ALIASES)
    images = tuple(image for value in cells(record.fields, columns, "image") for image in images_of(value, folders))
    if not images:
        raise UnusableRow("no image in the row")
    return [
        SourceRow(
            **read_facts(record, columns, options).fields(),
            question=options.question or QUESTION,
            answer=text_of(record.fields, columns, "caption"),
            answer_kind=AnswerKind.OPEN,  # the kind `report` has no verifier yet
            images=images,
            metadata=read_labels(record, columns),
        )
    ]


CAPTIONS = RowFormat(
    name="captions",
    description="a folder of pictures and a CSV (or JSONL, Parquet) with their captions: open answers",
    files="the folder of the pictures with one .csv, .jsonl or .parquet of image and caption in it, or that file",
    fields=FIELDS,
    options=frozenset({"columns", "images", "question", "salt"}),
    read=read_captions,
)
