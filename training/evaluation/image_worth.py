"""What the image is worth: accuracy with the true image minus that with another one or none, on the same questions."""

from typing import Any

import polars as pl

from residency.platform.errors import DataError
from residency.training.evaluation.comparisons import Row, comparison_row


def image_worth_row(true: pl.DataFrame, other: pl.DataFrame, *, checkpoint: str, condition: str, **labels: Any) -> Row:
    """A `comparisons` row of a checkpoint against itself on ``condition`` images (blank, shuffled, none).

    ``labels`` are those of ``comparison_row``. Questions that were not asked under the condition (without an image, or
    without another one to show) are left out of the true side and counted in ``left_out``. Raises DataError where the
    condition has questions that the true side has not.
    """
    asked = other.select("dataset", "item_id").unique()
    shared = true.join(asked, on=["dataset", "item_id"], how="semi")
    if shared.is_empty():
        raise DataError(
            f"no question of {checkpoint} was asked on true and on {condition} images",
            "the same questions under both conditions",
            "evaluate both on the same dataset folder",
        )
    left_out = true.select("dataset", "item_id").n_unique() - shared.select("dataset", "item_id").n_unique()
    row = comparison_row(shared, other, a_name=checkpoint, b_name=f"{checkpoint}@{condition}", image="true", **labels)
    return row | {"left_out": left_out}
