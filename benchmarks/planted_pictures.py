"""Drawn pictures that resemble each other as medical ones do, and copies of them as they travel through the internet.

A family shares its anatomy (body outline, organs, ribs); its members differ as patients or slices do: organs a little
moved and scaled, other texture, sometimes a lesion. So members are hard negatives for a perceptual hash. A copy is
recompressed, scaled, cropped, brightened, reduced to a palette or made noisy, one to three of these at once, by
Pillow: nothing of the detector is used.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

HEIGHT, WIDTH = 80, 96
ROWS, COLUMNS = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j].astype(np.float32)
FAMILY = 20  # pictures of one family


def _blob(y: float, x: float, height: float, width: float, turn: float, sharp: float) -> NDArray[np.float32]:
    dy, dx = ROWS - y, COLUMNS - x
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    away = np.sqrt((along / width) ** 2 + (across / height) ** 2)
    return (1 / (1 + np.exp((away - 1) * sharp))).astype(np.float32)


def _texture(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    grain = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    return np.asarray(grain.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def draw(number: int, seed: int) -> Image.Image:
    """Picture ``number``: anatomy by its family, the rest its own."""
    family = np.random.default_rng((seed, number // FAMILY, 1))
    own = np.random.default_rng((seed, number, 2))
    grey = np.full((HEIGHT, WIDTH), float(family.uniform(0, 25)), np.float32)
    body = _blob(0.5, 0.5, family.uniform(0.38, 0.5), family.uniform(0.38, 0.5), 0, 25)
    grey += body * family.uniform(50, 110)
    for _ in range(int(family.integers(4, 9))):
        y, x = family.uniform(0.2, 0.8, size=2) + own.normal(0, 0.02, size=2)
        height, width = family.uniform(0.05, 0.2, size=2) * own.normal(1, 0.08, size=2).clip(0.7, 1.3)
        turn = family.uniform(0, np.pi) + own.normal(0, 0.1)
        grey += body * _blob(y, x, height, width, turn, family.uniform(6, 20)) * family.uniform(-60, 80)
    if family.random() < 0.5:  # ribs
        grey += body * 12 * np.sin((ROWS + 0.3 * (COLUMNS - 0.5) ** 2) * family.uniform(20, 40) + own.normal(0, 0.3))
    grey += body * 7 * _texture(own, 9) + 3 * _texture(own, 30)
    if own.random() < 0.4:  # a lesion
        y, x = own.uniform(0.25, 0.75, size=2)
        size = own.uniform(0.04, 0.09)
        grey += (
            body * _blob(y, x, size, size * own.uniform(0.8, 1.25), 0, 10) * own.choice((-1, 1)) * own.uniform(25, 60)
        )
    grey += own.normal(0, 2, size=grey.shape)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


def _jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=int(rng.integers(30, 91)))
    return Image.open(buffer).convert("RGB")


def _webp(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=int(rng.integers(40, 91)))
    return Image.open(buffer).convert("RGB")


def _scaled(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = rng.uniform(0.5, 2.0)
    kind = Image.Resampling(int(rng.choice((1, 2, 3))))
    return image.resize((max(40, int(image.width * factor)), max(34, int(image.height * factor))), kind)


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    left, top, right, bottom = rng.uniform(0, 0.05, size=4)
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


def _lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    brighter = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.85, 1.2)))
    return ImageEnhance.Contrast(brighter).enhance(float(rng.uniform(0.85, 1.2)))


def _palette(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.quantize(int(rng.choice((32, 64, 128, 256)))).convert("RGB")


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    values = np.asarray(image, np.float32)
    return Image.fromarray((values + rng.normal(0, rng.uniform(1, 4), size=values.shape)).clip(0, 255).astype(np.uint8))


CHANGES = (_jpeg, _jpeg, _webp, _scaled, _cropped, _lit, _palette, _noisy)


def copied(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The same picture after one to three changes; always other bytes."""
    for which in rng.choice(len(CHANGES), size=int(rng.integers(1, 4)), replace=False):
        image = CHANGES[which](image, rng)
    return image
