"""The boards of a run: the datasets on which its checkpoints are examined."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from residency.platform.dataset_folder import Dataset, read_dataset
from residency.platform.errors import DataError
from residency.platform.recipe import Recipe
from residency.platform.records import Item, Split
from residency.platform.run_folder import RunFolder


@dataclass(frozen=True)
class Board:
    """One examination: the held-out items of a dataset. ``own`` is the run's own dataset."""

    dataset: Dataset
    own: bool

    @property
    def name(self) -> str:
        return self.dataset.card.name

    @cached_property
    def items(self) -> tuple[Item, ...]:
        return self.dataset.split(Split.HELD_OUT)

    @cached_property
    def items_with_media(self) -> tuple[Item, ...]:
        """What an image condition can be asked of."""
        return tuple(item for item in self.items if item.media)


def read_boards(recipe: Recipe, run: RunFolder) -> tuple[Board, ...]:
    """The run's own dataset first; raises DataError for two of one name, or one without a held-out item."""
    boards = [Board(dataset=read_dataset(run.data), own=True)]
    boards += [Board(dataset=read_dataset(Path(folder)), own=False) for folder in recipe.evaluation.datasets]
    check_boards(boards)
    return tuple(boards)


def check_boards(boards: Sequence[Board]) -> None:
    names = [board.name for board in boards]
    for board in boards:
        if names.count(board.name) > 1:
            raise DataError(
                f"{names.count(board.name)} datasets of the evaluation are called {board.name!r}",
                "one name each",
                "leave one out of evaluation.datasets, or change the name in its dataset.yaml",
            )
        if not board.items:
            raise DataError(
                f"dataset {board.name!r} has no held-out item",
                "a held_out split, which checkpoints have not seen",
                "import the set's test split",
            )
