"""What any format's row may say beside question and answer: its key, patient, study, split, licence and labels."""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.synthesis.benchmarks.gold_answers import labels
from residency.synthesis.benchmarks.published_files import Record
from residency.synthesis.importing.column_map import Columns, text_of
from residency.synthesis.importing.source_row import ReadOptions

LABELS = ("modality", "organ", "specialty", "language", "explanation")
FACT_FIELDS = ("id", "patient", "study", "split", "licence", *LABELS)
FACT_ALIASES = {"patient": ("patient", "patient_id", "subject_id"), "study": ("study", "study_id")}  # for their safety


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFacts:
    """The fields of ``SourceRow`` that every format fills in the same way."""

    key: str
    where: str
    patient_id: str | None
    unit: str | None
    split: str | None
    licence: str | None

    def fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("key", "where", "patient_id", "unit", "split", "licence")}


def read_facts(record: Record, columns: Columns, options: ReadOptions) -> RowFacts:
    """The facts of a row; patient and study are hashed where a salt is given."""

    def said(field: str) -> str | None:
        return text_of(record.fields, columns, field) or None

    return RowFacts(
        key=said("id") or str(record.number),
        where=record.where,
        patient_id=pseudonym(said("patient"), options.salt),
        unit=pseudonym(said("study"), options.salt),
        split=said("split"),
        licence=said("licence"),
    )


def read_labels(record: Record, columns: Columns) -> dict[str, Any]:
    """The row's labels that are mapped and not empty."""
    return dict(labels(**{name: text_of(record.fields, columns, name) for name in LABELS}))


def pseudonym(name: str | None, salt: str | None) -> str | None:
    """A keyed hash in place of an identifier: without the salt nobody can try out names. As it is without a salt."""
    if name is None or salt is None:
        return name
    return hmac.new(salt.encode(), name.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:16]


def image_folders(path: Path, options: ReadOptions) -> list[Path]:
    """Where image names of a file are looked up: in the folder that the user gave, and beside the file."""
    beside = path if path.is_dir() else path.parent
    return [beside] if options.images is None else [options.images, beside]
