"""What a picture is to a model: the tensors that its image processor makes of it, and what stands for it in the prompt.

No family is known here but by one property. A processor whose pictures are flat patches with a grid (Qwen2-VL and its
like) takes many at once, for what it gives can be cut apart by the grids. All others get one picture at a time: what
they pad or count over a batch could not be taken apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from transformers import ProcessorMixin

from residency.platform.errors import ModelError

PATCHES, GRID = "pixel_values", "image_grid_thw"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFeatures:
    """One picture. ``tensors``: by the names of the model's forward, each with a leading dimension; ``text``: what
    takes the place of its placeholder in the prompt."""

    tensors: Mapping[str, torch.Tensor]
    text: str

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


def check_processor(processor: Any) -> None:
    """ModelError for one that does not say what a picture becomes in the prompt."""
    says = getattr(type(processor), "replace_image_token", None)
    if not getattr(processor, "image_token", None) or says in (None, ProcessorMixin.replace_image_token):
        raise ModelError(
            f"{type(processor).__name__} does not say by which tokens a picture stands in a prompt",
            "a processor with `image_token` and `replace_image_token`, as those of transformers have",
            "take a model whose processor is in transformers, or a text-only one",
        )


def features_of(processor: Any, pictures: Sequence[Image.Image]) -> list[ImageFeatures]:
    """Of each picture what it is when it stands alone in a prompt; RGB pictures."""
    if has_grids(processor):
        tensors, texts = processed(processor, pictures)
        counts = [int(count) for count in tensors[GRID].prod(dim=1)]
        # Cloned, because a slice would keep the whole batch's memory alive.
        return [
            ImageFeatures(tensors={PATCHES: patches.clone(), GRID: grid.unsqueeze(0)}, text=text)
            for patches, grid, text in zip(torch.split(tensors[PATCHES], counts), tensors[GRID], texts, strict=True)
        ]
    features: list[ImageFeatures] = []
    for picture in pictures:
        tensors, (text,) = processed(processor, [picture])
        features.append(ImageFeatures(tensors=tensors, text=text))
    return features


def has_grids(processor: Any) -> bool:
    """Whether pictures are flat patches, each picture's number of them told by a grid (time, height, width)."""
    return set(processor.image_processor.model_input_names) == {PATCHES, GRID}


def processed(processor: Any, pictures: Sequence[Image.Image]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors and the texts of the pictures of one prompt, made as the processor's own call makes them.

    The call itself would throw away what only the texts are made of (numbers of tiles), and tokenize.
    """
    prompt = processor.image_token * len(pictures)
    layout = processor.prepare_inputs_layout(images=list(pictures), text=prompt)[0]
    options = processor._merge_kwargs(
        processor.valid_processor_kwargs, tokenizer_init_kwargs=processor.tokenizer.init_kwargs, return_tensors="pt"
    )["images_kwargs"]
    inputs, texts = processor._process_images(layout, **options)
    return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}, texts


def together(pictures: Sequence[ImageFeatures]) -> dict[str, torch.Tensor]:
    """The tensors of several pictures, one behind the other along the leading dimension.

    Where pictures differ in another dimension (number of tiles, height, width) the smaller ones are filled up with
    zeros at its end, as the processors do with pictures that they are given together; the models know what is filling
    by sizes, by a mask or by its being zero.
    """
    names = pictures[0].tensors if pictures else ()
    return {name: _joined([picture.tensors[name] for picture in pictures]) for name in names}


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    if len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    largest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    whole = parts[0].new_zeros((sum(len(part) for part in parts), *largest))
    row = 0
    for part in parts:
        whole[(slice(row, row + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        row += len(part)
    return whole


def grey_picture(processor: Any) -> ImageFeatures:
    """A picture to stand where a micro-batch has none: the processor's own of a small grey one.

    Flat patches are cut down to those of one token.
    """
    (grey,) = features_of(processor, [Image.new("RGB", (28, 28), (128, 128, 128))])
    if not has_grids(processor):
        return grey
    edge = int(processor.image_processor.merge_size)
    tensors = {PATCHES: grey.tensors[PATCHES][: edge * edge], GRID: torch.tensor([[1, edge, edge]])}
    text = processor.replace_image_token(tensors, image_idx=0)
    return replace(grey, tensors=tensors, text=text)
