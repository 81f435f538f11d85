"""Fixtures are built here by hand in the form in which the sets are published; nothing is fetched."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # the hub's image feature
ParquetWriter = Callable[[Path, Sequence[Mapping[str, Any]]], Path]


def encoded(shade: int = 0, picture_format: str = "PNG", size: tuple[int, int] = (12, 8)) -> bytes:
    """A plain picture; different shades are different pictures."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 100, 50)).save(buffer, picture_format)
    return buffer.getvalue()


@pytest.fixture
def picture() -> Callable[..., bytes]:
    return encoded


@pytest.fixture
def write_parquet() -> ParquetWriter:
    """Rows → a Parquet file as the hub writes it: columns ``image…`` hold ``{"bytes", "path"}``."""

    def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
        columns = {
            name: pa.array(
                [row.get(name) for row in rows], type=IMAGE_TYPE if name.startswith("image") else pa.string()
            )
            for name in rows[0]
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path, row_group_size=2)
        return path

    return write


@pytest.fixture
def write_json() -> Callable[[Path, Any], Path]:
    def write(path: Path, value: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def put_pictures() -> Callable[..., None]:
    """Write one picture, of its own shade, under each of the names (the format follows the suffix)."""

    def put(folder: Path, *names: str) -> None:
        for shade, name in enumerate(names):
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(encoded(shade * 10, "PNG" if name.endswith("png") else "JPEG"))

    return put
