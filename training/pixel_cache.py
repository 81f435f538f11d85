"""Pixel values by image hash: the model's own image processor sees each picture once, then memory answers."""

import io
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from residency.platform.errors import DataError

DEFAULT_CACHE_BYTES = 192 * 1024 * 1024
Pixels = tuple[torch.Tensor, torch.Tensor]  # pixel values [patches, values], grid [3] (time, height, width in patches)


class PixelCache:
    """Least-recently-used cache over a media table (columns ``hash`` and ``png``)."""

    def __init__(self, processor: Any, media: pa.Table, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._image_processor = getattr(processor, "image_processor", None)  # a text-only model has none
        self._png = media.column("png")
        self._row_of = {name: row for row, name in enumerate(media.column("hash").to_pylist())}
        self._pixels: OrderedDict[str, Pixels] = OrderedDict()
        self.num_bytes, self._max_bytes = 0, max_bytes

    def _open(self, name: str) -> Image.Image:
        row = self._row_of.get(name)
        if row is None:
            raise DataError(
                f"image {name[:12]}… is not in the media table of {len(self._row_of)} images",
                "every image that a batch names",
                "put the dataset's whole media table into the object store before training",
            )
        return Image.open(io.BytesIO(self._png[row].as_py())).convert("RGB")

    def _process(self, names: Sequence[str]) -> dict[str, Pixels]:
        if self._image_processor is None:
            raise DataError(
                f"image {names[0][:12]}… for a text-only model",
                "a model that sees images, or items without them",
                "take a multimodal model for the student, or leave these items out",
            )
        features = self._image_processor(images=[self._open(name) for name in names], return_tensors="pt")
        grids: torch.Tensor = features["image_grid_thw"]
        values: torch.Tensor = features["pixel_values"]
        parts = torch.split(values, [int(count) for count in grids.prod(dim=1)])
        # Cloned, because a slice would keep the whole batch's memory alive.
        return {name: (part.clone(), grid) for name, part, grid in zip(names, parts, grids, strict=True)}

    def get(self, names: Iterable[str]) -> list[Pixels]:
        """Pixels of these images, in order; raises DataError for an image that the media table does not hold."""
        wanted = list(names)
        found = {name: self._pixels[name] for name in wanted if name in self._pixels}
        missing = [name for name in dict.fromkeys(wanted) if name not in found]
        if missing:
            found.update(self._process(missing))
        for name in dict.fromkeys(wanted):
            if name in self._pixels:
                self._pixels.move_to_end(name)
            else:
                self._pixels[name] = found[name]
                self.num_bytes += found[name][0].nbytes
        while self.num_bytes > self._max_bytes:
            _, (values, _) = self._pixels.popitem(last=False)
            self.num_bytes -= values.nbytes
        return [found[name] for name in wanted]

    def grids(self, names: Iterable[str]) -> np.ndarray:
        """Grids of these images, int64 [images, 3]."""
        return np.array([grid.tolist() for _, grid in self.get(names)], dtype=np.int64).reshape(-1, 3)
