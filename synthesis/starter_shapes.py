"""Drawn shapes and colours: the general multimodal family of the starter set."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

from residency.platform.records import AnswerKind, Family, Split
from residency.synthesis.drafts import Draft

CORNERS = {"circle": "0", "square": "4", "triangle": "3"}
COLOURS = {"red": (205, 50, 45), "green": (60, 150, 70), "blue": (55, 85, 190), "yellow": (225, 195, 60)}
TONES = {"red": "warm", "yellow": "warm", "green": "cool", "blue": "cool"}
LICENCE = "CC0 (drawn by Residency)"


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled shape; centre and half edge relative to the picture's edge."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float


def _shape(kind: str, x: tuple[float, float], rng: random.Random) -> Shape:
    return Shape(kind, rng.choice(sorted(COLOURS)), rng.uniform(*x), rng.uniform(0.3, 0.7), rng.uniform(0.11, 0.19))


def draft_shape_questions(split: Split, count: int, rng: random.Random) -> tuple[list[Draft], dict[str, list[Shape]]]:
    """``count`` pictures of one shape and as many of two, with their questions; the shapes by picture key."""
    drafts: list[Draft] = []
    pictures: dict[str, list[Shape]] = {}
    for number in range(count):
        key = f"{split}:shape:{number}"
        one = _shape(rng.choice(sorted(CORNERS)), (0.3, 0.7), rng)
        pictures[key] = [one]
        facts = {"tone": TONES[one.colour], "corners": CORNERS[one.kind]}
        drafts.append(_draft("shape_name", "which shape is this ?", one.kind, tuple(CORNERS), facts, key))
        facts = {"shape": one.kind, "tone": TONES[one.colour]}
        drafts.append(_draft("shape_colour", "which colour is the shape ?", one.colour, tuple(COLOURS), facts, key))

        key = f"{split}:shapes:{number}"
        left, right = rng.sample(sorted(CORNERS), 2)
        pictures[key] = [_shape(left, (0.22, 0.28), rng), _shape(right, (0.72, 0.78), rng)]
        side = rng.choice(("left", "right"))
        facts = {"left": CORNERS[left], "right": CORNERS[right]}
        answer = left if side == "left" else right
        drafts.append(_draft("shape_on_side", f"which shape is on the {side} ?", answer, tuple(CORNERS), facts, key))
    return drafts, pictures


def _draft(
    task: str, question: str, answer: str, options: tuple[str, ...], facts: Mapping[str, str], key: str
) -> Draft:
    return Draft(
        task=task,
        family=Family.GENERAL_MULTIMODAL,
        question=question,
        options=options,
        answer=answer,
        answer_kind=AnswerKind.CHOICE,
        facts=facts,
        cluster=key,
        row_key=f"{key}:{task}",
        picture=key,
        licence=LICENCE,
        balance_by=answer,
    )


def draw_shapes(shapes: list[Shape], size: int) -> Image.Image:
    """The shapes on a light ground, drawn four times as large and scaled down, so that edges are smooth."""
    big = size * 4
    picture = Image.new("RGB", (big, big), (228, 226, 220))
    pen = ImageDraw.Draw(picture)
    for shape in shapes:
        x, y, radius = shape.x * big, shape.y * big, shape.radius * big
        fill = COLOURS[shape.colour]
        if shape.kind == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        elif shape.kind == "square":
            pen.rectangle((x - radius, y - radius, x + radius, y + radius), fill=fill)
        else:
            pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
    return picture.resize((size, size), Image.Resampling.LANCZOS)
