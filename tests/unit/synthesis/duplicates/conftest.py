"""Fixtures of the duplicates' tests: drawn pictures and items about them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from residency.platform.media_store import MediaStore
from residency.platform.records import AnswerKind, Family, Item, Split


@pytest.fixture
def drawn() -> Callable[[int], Image.Image]:
    """Picture n: ellipses on a dark ground, like organs on a slice; other n, another patient."""

    def draw(number: int) -> Image.Image:
        rng = np.random.default_rng(number)
        image = Image.new("L", (160, 128), 12)
        pen = ImageDraw.Draw(image)
        pen.ellipse((10, 8, 150, 120), fill=90)
        for _ in range(7):
            x, y = rng.integers(20, 120), rng.integers(20, 90)
            width, height = rng.integers(10, 40, size=2)
            pen.ellipse((int(x), int(y), int(x + width), int(y + height)), fill=int(rng.integers(40, 240)))
        noise = rng.normal(0, 3, size=(128, 160))
        return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).convert("RGB")

    return draw


@pytest.fixture
def store(tmp_path: Path) -> MediaStore:
    return MediaStore(tmp_path / "media")


@pytest.fixture
def make_item() -> Callable[..., Item]:
    """An item whose content key follows its content, with an id of its own."""
    count = iter(range(1_000_000))

    def make(question: str, answer: str = "yes", *media: str, **changed: Any) -> Item:
        kind = AnswerKind.YES_NO if answer in ("yes", "no") else AnswerKind.SHORT
        options = changed.get("options", ())
        fields: dict[str, Any] = {
            "id": f"item{next(count)}", "content_key": Item.make_content_key(question, options, media), "source": "s",
            "split": Split.TRAIN, "licence": "CC0-1.0", "cluster": media[0] if media else question, "media": media,
            "question": question, "answer": answer, "answer_kind": kind, "family": Family.MEDICAL_MULTIMODAL,
        }  # fmt: skip
        return Item(**(fields | changed))

    return make
