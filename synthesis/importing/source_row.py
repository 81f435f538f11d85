"""One row of somebody's file on its way to an item, and what a format has to be to yield such rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image

from residency.platform.errors import BadInputError
from residency.platform.records import AnswerKind, Item
from residency.synthesis.benchmarks.importing import Refused


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRow:
    """One usable row.

    ``key`` is its key in the source and makes the item's id; ``where`` says where it stands (file and row from 1).
    ``split`` and ``licence`` are the row's own where it says them. ``answer_kind`` is found by the answer where absent.
    ``unit`` is what splits must keep together where no patient is known, for example a hashed study. ``restored`` is
    the item that our own export wrote beside the row: its id and facts are kept if text and images are still its own.
    """

    key: str
    where: str
    question: str
    options: tuple[str, ...] = ()
    answer: str
    answer_kind: AnswerKind | None = None
    images: tuple[bytes | Path | Image.Image, ...] = ()
    patient_id: str | None = None
    unit: str | None = None
    split: str | None = None
    licence: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    restored: Item | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """What a user may say of how a source is to be read; each format knows some of them."""

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # --map: our field → columns of the file
    images: Path | None = None  # folder that image names are relative to; else the file's own
    question: str | None = None  # what is asked of every picture (captions, dicom)
    window: tuple[float, float] | None = None  # DICOM: centre and width, in place of the tags'
    every: int | None = None  # DICOM: each n-th frame of a multi-frame picture; else the middle one
    salt: str | None = None  # DICOM: with the same salt a patient has the same hash in every import

    def given(self) -> set[str]:
        """Names of the options that the user gave."""
        return {option.name for option in fields(self) if getattr(self, option.name) not in (None, {})}


OPTION_NAMES = {"columns": "--map", "images": "--images", "question": "--question", "window": "--window",
                "every": "--every", "salt": "--salt"}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFormat:
    """A format that is read row by row. ``read`` yields every row, usable or refused, and raises DataError only where
    the source is not of the format at all (or ``--map`` names a column that it does not have)."""

    name: str
    description: str
    files: str  # what the source must be
    fields: tuple[str, ...]  # what --map can name
    options: frozenset[str]  # of ReadOptions
    read: Callable[[Path, ReadOptions], Iterator[SourceRow | Refused]]

    def check_options(self, options: ReadOptions) -> None:
        """Raise BadInputError for an option that this format does not know: it would change nothing, silently."""
        foreign = sorted(OPTION_NAMES[name] for name in options.given() - self.options)
        if foreign:
            known = ", ".join(sorted(OPTION_NAMES[name] for name in self.options))
            raise BadInputError(f"{', '.join(foreign)} for `{self.name}`", f"one of {known}", "leave it out")
