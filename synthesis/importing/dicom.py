"""DICOM: windowed frames as pictures, technical tags as metadata, the patient as a salted hash that splits by.

Without a table each file asks for its modality, which its own tag answers; a table asks and answers about files.
"""

import os
import secrets
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from residency.platform.records import AnswerKind
from residency.synthesis.benchmarks.importing import Refused
from residency.synthesis.benchmarks.published_files import Record, UnusableRow
from residency.synthesis.importing.column_map import cells, with_defaults
from residency.synthesis.importing.dicom_pixels import frames_of, identity, picture_of, read_dicom, technical_tags
from residency.synthesis.importing.image_cells import images_of
from residency.synthesis.importing.row_facts import image_folders, pseudonym
from residency.synthesis.importing.row_files import SUFFIXES, read_rows
from residency.synthesis.importing.row_reading import checked_rows, expand
from residency.synthesis.importing.source_row import ReadOptions, RowFormat, SourceRow
from residency.synthesis.importing.table import ALIASES, FIELDS, asked_row

QUESTION = "Which imaging modality made this image?"
MODALITIES = {
    "CT": "computed tomography", "MR": "magnetic resonance imaging", "US": "ultrasound", "CR": "X-ray", "DX": "X-ray",
    "XA": "angiography", "MG": "mammography", "PT": "positron emission tomography", "NM": "scintigraphy",
    "ES": "endoscopy", "OP": "ophthalmic photography", "SM": "slide microscopy",
}  # fmt: skip
CHOICES = tuple(dict.fromkeys(MODALITIES.values()))
MAGIC_AT, MAGIC = 128, b"DICM"


def read_dicom_source(source: Path, options: ReadOptions) -> Iterator[SourceRow | Refused]:
    """Rows of a table whose image column names DICOM files, or of every DICOM file below a folder."""
    salted = options if options.salt is not None else replace(options, salt=secrets.token_hex(16))
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        folders = image_folders(source, salted)
        return expand(checked_rows(read_rows(source), source, salted), partial(asked, options=salted, folders=folders))
    return expand(dicom_files(source), partial(modality_rows, options=salted))


def dicom_files(source: Path) -> Iterator[Record]:
    """Every DICOM file at or below the source, in order of name; files of other kinds are passed over."""
    if source.is_file():
        yield Record(source.name, 1, {"path": source})
        return
    number = 0
    for folder, subfolders, names in os.walk(source):
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if path.suffix.lower() == ".dcm" or has_magic(path):
                number += 1
                yield Record(str(path.relative_to(source)), number, {"path": path})


def has_magic(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(MAGIC_AT)
        return file.read(len(MAGIC)) == MAGIC


def modality_rows(record: Record, options: ReadOptions) -> Iterator[SourceRow]:
    """A row for each chosen frame of a file, which asks for the modality."""
    pictures, facts = shown(record.fields["path"], options)
    code = str(facts["metadata"]["dicom"].get("Modality", ""))
    if code not in MODALITIES:
        raise UnusableRow("its Modality has no question", f"{code or 'none'}, known: {', '.join(MODALITIES)}")
    for frame, picture in pictures:
        yield SourceRow(
            patient_id=facts["patient_id"],
            metadata=facts["metadata"],
            unit=facts["unit"] or f"file {record.number}",  # frames of one file stay together, whatever it leaves out
            key=f"{record.number}:{frame}",  # a file's name may be a person's
            where=record.where,
            question=QUESTION,
            options=CHOICES,
            answer=MODALITIES[code],
            answer_kind=AnswerKind.CHOICE,
            images=(picture,),
        )


def asked(record: Record, options: ReadOptions, folders: Sequence[Path]) -> list[SourceRow]:
    """A table's row with the chosen frames of the DICOM files that it names."""
    columns = with_defaults(options.columns, list(record.fields), ALIASES)
    paths = [path for value in cells(record.fields, columns, "image") for path in images_of(value, folders)]
    if not paths or not all(isinstance(path, Path) for path in paths):
        raise UnusableRow("it names no DICOM file")
    found = [shown(path, options) for path in paths if isinstance(path, Path)]
    patients = {facts["patient_id"] for _, facts in found} - {None}
    if len(patients) > 1:
        raise UnusableRow("its DICOM files are of several patients", f"{len(patients)} patients")
    row = asked_row(record, columns, options, tuple(picture for pictures, _ in found for _, picture in pictures))
    first = found[0][1]
    return [
        replace(
            row,
            patient_id=row.patient_id or next(iter(patients), None),
            unit=row.unit or first["unit"],
            metadata={**first["metadata"], **row.metadata},
        )
    ]


def shown(path: Path, options: ReadOptions) -> tuple[list[tuple[int, Image.Image]], dict[str, Any]]:
    """The chosen frames as (frame from 0, picture), and patient, unit and metadata of the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings print values, and a value may be a name
        dataset = read_dicom(path)
        pictures = [(frame, picture_of(dataset, frame, options.window)) for frame in frames_of(dataset, options.every)]
        named, tags = identity(dataset), technical_tags(dataset)
    code = tags.get("Modality")
    return pictures, {
        "patient_id": pseudonym(named.get("PatientID"), options.salt),
        "unit": pseudonym(named.get("StudyInstanceUID"), options.salt),
        "metadata": {"dicom": tags} | ({"modality": code} if code else {}),
    }


DICOM = RowFormat(
    name="dicom",
    description="DICOM files below a folder (asks for the modality), or a table whose image column names them",
    files="a folder of DICOM files, or a .csv, .jsonl or .parquet that names them",
    fields=FIELDS,
    options=frozenset({"columns", "images", "window", "every", "salt"}),
    read=read_dicom_source,
)
