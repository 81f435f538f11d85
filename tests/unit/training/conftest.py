"""Pictures and examples for the training tests."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def processor(tiny_student_dir: Path) -> Any:
    from residency.training.checkpoints import load_processor

    return load_processor(tiny_student_dir)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 255, (84, 84, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.fixture(scope="session")
def media(pictures: list[Image.Image]) -> pa.Table:
    pngs: list[bytes] = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        pngs.append(buffer.getvalue())
    return pa.table({"hash": [hashlib.sha256(png).hexdigest() for png in pngs], "png": pngs})
