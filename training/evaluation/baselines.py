"""What accuracy is worth nothing: chance, and always giving the commonest answer."""

import polars as pl

from residency.platform.records import AnswerKind


def chance_accuracy(outcomes: pl.DataFrame) -> float:
    """Expected accuracy of blind guessing, averaged over questions.

    1/options for choice, 1/2 for yes_no, 0 for every other kind (guessing a free answer is taken as hopeless, which
    makes chance a lower bound there; the majority baseline stands beside it).
    """
    guess = (
        pl.when((pl.col("answer_kind") == AnswerKind.CHOICE.value) & (pl.col("n_options") > 0))
        .then(1.0 / pl.col("n_options").clip(lower_bound=1))
        .when(pl.col("answer_kind") == AnswerKind.YES_NO.value)
        .then(0.5)
        .otherwise(0.0)
    )
    return float(_questions(outcomes).select(guess.mean()).item())


def majority_accuracy(outcomes: pl.DataFrame) -> float:
    """Accuracy of giving, for each task of each dataset, the answer that is commonest *in this very table*.

    It looks at the answers it is scored on, so it is at least what a majority taken from the train split would reach:
    a baseline on the safe side.
    """
    questions = _questions(outcomes)
    if "task" not in questions.columns:
        questions = questions.with_columns(task=pl.lit(""))
    tasks = ["dataset", "task", "answer_kind", "n_options"]
    counts = questions.group_by([*tasks, pl.col("gold").str.strip_chars().str.to_lowercase()]).len("count")
    return float(counts.group_by(tasks).agg(pl.col("count").max())["count"].sum() / questions.height)


def _questions(outcomes: pl.DataFrame) -> pl.DataFrame:
    return outcomes.unique(subset=["dataset", "item_id"], keep="first", maintain_order=True)
