"""What can be said of a picture or a text: per task, an ordered list of facts with closed vocabularies.

A fact is visible in the picture (or stated in the text), derived from the annotations, and leads towards the answer.
An item carries ``metadata = {"task": name, "facts": {fact: value}, …}``. Teachers phrase facts; reflection reads the
phrases back and finds the first wrong one. Phrases of one task differ, so that a claim names its fact.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from residency.platform.errors import DataError


@dataclass(frozen=True, slots=True)
class FactSpec:
    """One fact: its name, its possible values and a phrase of few words that holds ``{value}``."""

    name: str
    values: tuple[str, ...]
    phrase: str

    def say(self, value: str) -> str:
        """The phrase with its value put in."""
        return self.phrase.format(value=value)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task: its facts in the order in which they are said, and a conclusion that holds ``{answer}``."""

    name: str
    facts: tuple[FactSpec, ...]
    conclusion: str = "so the answer is {answer}"

    def conclude(self, answer: str) -> str:
        """The conclusion with the answer put in."""
        return self.conclusion.format(answer=answer)


def _numbers(first: int, last: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, last + 1))


GRID = _numbers(1, 4)  # columns from the left
SIZES = ("small", "medium", "large")

COLUMN = FactSpec("column", GRID, "it is in column {value}")
SIDE = FactSpec("side", ("left", "right"), "it is on the {value}")
HEIGHT = FactSpec("height", ("upper", "lower"), "it is in the {value} half")
ON_THE_LEFT = FactSpec("left", _numbers(0, 4), "there are {value} on the left")
ON_THE_RIGHT = FactSpec("right", _numbers(0, 4), "there are {value} on the right")
SIZE = FactSpec("size", SIZES, "its size is {value}")
SIZE_OR_NONE = FactSpec("size", ("none", *SIZES), "its size is {value}")
COLUMN_OR_NONE = FactSpec("column", ("none", *GRID), "its column is {value}")
CROWD = FactSpec("crowd", ("few", "some", "many"), "the cells around are {value}")
TONE = FactSpec("tone", ("bright", "dark"), "the spot is {value}")
PRODUCT_FACTORS = _numbers(1, 6)

STARTER_TASKS = (
    TaskSpec(
        "modality",
        (
            FactSpec("colour", ("grey", "red", "brown", "orange"), "the colour is {value}"),
            FactSpec("texture", ("smooth", "grainy"), "the texture is {value}"),
        ),
    ),
    TaskSpec(
        "lesion_present",
        (
            FactSpec("tone", ("none", "bright", "dark"), "the spot tone is {value}"),
            FactSpec("size", ("none", "small", "large"), "the spot size is {value}"),
        ),
    ),
    TaskSpec("lesion_side", (TONE, HEIGHT, COLUMN)),
    TaskSpec("lesion_count", (ON_THE_LEFT, ON_THE_RIGHT)),
    TaskSpec("lesion_box", (SIDE, HEIGHT), "so the box is {answer}"),
    TaskSpec(
        "shape_name",
        (
            FactSpec("tone", ("warm", "cool"), "its tone is {value}"),
            FactSpec("corners", ("0", "3", "4"), "it has {value} corners"),
        ),
    ),
    TaskSpec(
        "shape_colour",
        (
            FactSpec("shape", ("circle", "square", "triangle"), "the shape is a {value}"),
            FactSpec("tone", ("warm", "cool"), "its tone is {value}"),
        ),
    ),
    TaskSpec(
        "shape_on_side",
        (
            FactSpec("left", ("0", "3", "4"), "the left one has {value} corners"),
            FactSpec("right", ("0", "3", "4"), "the right one has {value} corners"),
        ),
    ),
    TaskSpec(
        "dose_total",
        (
            FactSpec("strength", PRODUCT_FACTORS, "one tablet has {value} mg"),
            FactSpec("tablets", PRODUCT_FACTORS, "the tablets are {value}"),
        ),
    ),
    TaskSpec(
        "dose_limit",
        (
            FactSpec("total", _numbers(1, 36), "the total is {value} mg"),
            FactSpec("limit", _numbers(1, 40), "the limit is {value} mg"),
        ),
    ),
    TaskSpec(
        "unit_convert",
        (
            FactSpec("factor", ("7", "24", "60", "1000"), "one is {value}"),
            FactSpec("amount", PRODUCT_FACTORS, "the amount is {value}"),
        ),
    ),
)

BLOOD_TASKS = (
    TaskSpec(
        "cell_type",
        (FactSpec("stain", ("pink", "purple"), "the stain is {value}"), SIZE, CROWD),
    ),
    TaskSpec("white_cell_present", (SIZE_OR_NONE, COLUMN_OR_NONE)),
    TaskSpec("platelet_present", (SIZE_OR_NONE, COLUMN_OR_NONE)),
    TaskSpec("red_cell_count", (ON_THE_LEFT, ON_THE_RIGHT)),
    TaskSpec("white_cell_side", (HEIGHT, COLUMN)),
    TaskSpec("platelet_side", (HEIGHT, COLUMN)),
)

OBJECT_TASKS = (  # any other Pascal VOC folder
    TaskSpec("object_type", (SIZE, FactSpec("crowd", ("few", "some", "many"), "the things around are {value}"))),
    TaskSpec("object_present", (SIZE_OR_NONE, COLUMN_OR_NONE)),
    TaskSpec("object_count", (ON_THE_LEFT, ON_THE_RIGHT)),
    TaskSpec("object_side", (HEIGHT, COLUMN)),
)

TASKS: dict[str, TaskSpec] = {task.name: task for task in (*STARTER_TASKS, *BLOOD_TASKS, *OBJECT_TASKS)}


def check_facts(task: str, facts: Mapping[str, str]) -> None:
    """Raise DataError unless the facts are exactly those of the task, in its order, with values of its vocabularies."""
    spec = TASKS.get(task)
    if spec is None:
        raise DataError(
            f"unknown task {task!r}", f"one of {', '.join(TASKS)}", "add its TaskSpec to synthesis/facts.py"
        )
    wanted = [fact.name for fact in spec.facts]
    if list(facts) != wanted:
        raise DataError(f"task {task!r} with the facts {list(facts)}", f"the facts {wanted}, in this order")
    for fact in spec.facts:
        if facts[fact.name] not in fact.values:
            raise DataError(f"task {task!r}: fact {fact.name!r} is {facts[fact.name]!r}", f"one of {fact.values}")
