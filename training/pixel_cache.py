"""Features of pictures by image hash: the model's own processor sees each picture once, then memory answers."""

import io
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from residency.platform.errors import DataError
from residency.training.image_features import ImageFeatures, features_of

DEFAULT_CACHE_BYTES = 192 * 1024 * 1024


class PixelCache:
    """Least-recently-used cache over a media table (columns ``hash`` and ``png``)."""

    def __init__(self, processor: Any, media: pa.Table, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._processor = processor if hasattr(processor, "image_processor") else None  # a text-only model has none
        self._png = media.column("png")
        self._row_of = {name: row for row, name in enumerate(media.column("hash").to_pylist())}
        self._features: OrderedDict[str, ImageFeatures] = OrderedDict()
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

    def _process(self, names: Sequence[str]) -> dict[str, ImageFeatures]:
        if self._processor is None:
            raise DataError(
                f"image {names[0][:12]}… for a text-only model",
                "a model that sees images, or items without them",
                "take a multimodal model for the student, or leave these items out",
            )
        return dict(zip(names, features_of(self._processor, [self._open(name) for name in names]), strict=True))

    def get(self, names: Iterable[str]) -> list[ImageFeatures]:
        """Features of these images, in order; raises DataError for an image that the media table does not hold."""
        wanted = list(names)
        found = {name: self._features[name] for name in wanted if name in self._features}
        missing = [name for name in dict.fromkeys(wanted) if name not in found]
        if missing:
            found.update(self._process(missing))
        for name in dict.fromkeys(wanted):
            if name in self._features:
                self._features.move_to_end(name)
            else:
                self._features[name] = found[name]
                self.num_bytes += found[name].num_bytes
        while self.num_bytes > self._max_bytes:
            _, oldest = self._features.popitem(last=False)
            self.num_bytes -= oldest.num_bytes
        return [found[name] for name in wanted]
