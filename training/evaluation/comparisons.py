"""Rows of ``summary.json``: what a checkpoint scores (`evaluation`) and how far two lie apart (`comparisons`)."""

from typing import Any

import polars as pl

from residency.platform.errors import DataError
from residency.training.evaluation.baselines import chance_accuracy, majority_accuracy
from residency.training.evaluation.intervals import clustered_interval
from residency.training.evaluation.outcomes import check_outcomes, cluster_numbers, scored
from residency.training.evaluation.paired import mcnemar_exact, paired_bootstrap

Row = dict[str, Any]
QUESTION = ["seed", "dataset", "item_id"]


def evaluation_row(
    outcomes: pl.DataFrame,
    *,
    checkpoint: str,
    dataset: str,
    seed: int | None,
    prompt_mode: str,
    decoding: str,
    image: str,
    profile: str,
) -> Row:
    """One `evaluation` row. ``seed`` None pools the outcomes of several seeds.

    ``n`` counts scored answers (abstained ones are wrong and inside n; errors are outside). ``ci95`` is Wilson's, on
    the effective sample size wherever answers share a cluster. Rows of the same image under several seeds share it too.
    """
    check_outcomes(outcomes, f"{checkpoint} on {dataset}")
    inside = scored(outcomes)
    errors = outcomes.height - inside.height
    labels = {
        "checkpoint": checkpoint,
        "dataset": dataset,
        "seed": seed,
        "prompt_mode": prompt_mode,
        "decoding": decoding,
        "image": image,
        "profile": profile,
    }
    if inside.is_empty():
        raise DataError(
            f"{checkpoint} on {dataset}: all {errors} verdicts are errors or timeouts",
            "at least one scored answer",
            "look at the evidence column of the verdicts, then evaluate again",
        )
    correct = inside["correct"].to_numpy()
    low, high = clustered_interval(correct, cluster_numbers(inside))
    valid = inside.filter(pl.col("valid_format"))
    return labels | {
        "n": inside.height,
        "correct": int(correct.sum()),
        "accuracy": float(correct.mean()),
        "ci95": [low, high],
        "chance": chance_accuracy(inside),
        "majority": majority_accuracy(inside),
        "abstained": int((inside["status"] == "abstained").sum()),
        "errors": errors,
        "questions": inside.select(QUESTION).n_unique(),
        "clusters": inside.select("dataset", "cluster").n_unique(),
        "seeds": inside["seed"].n_unique(),
        "valid_format": valid.height / inside.height,
        "accuracy_given_valid": float(valid["correct"].to_numpy().mean()) if valid.height else None,
    }


def comparison_row(
    a: pl.DataFrame,
    b: pl.DataFrame,
    *,
    a_name: str,
    b_name: str,
    dataset: str,
    seed: int | None,
    prompt_mode: str,
    decoding: str,
    image: str,
    resamples: int = 2000,
    random_seed: int = 0,
) -> Row:
    """One `comparisons` row: a minus b in accuracy on the same questions, bootstrap clustered by image or patient.

    Several samples of a question are averaged first. Where several seeds are in the tables, seeds are resampled too.
    ``n`` is the number of scored samples of the side that has fewer. ``gain_in_questions`` is the difference as a
    number of questions (of one seed's; samples and seeds averaged), ``gain`` says it in a sentence. A question that has
    no scored answer on one side (our own errors) is left out on both and counted in ``unpaired``. Raises DataError
    where the questions differ.
    """
    check_outcomes(a, a_name)
    check_outcomes(b, b_name)
    pairs = pair_questions(a, b, a_name, b_name)
    num_questions = a.select(QUESTION).n_unique()
    seeds = pairs["seed"].rank("dense").cast(pl.Int64).to_numpy() - 1
    num_seeds = pairs["seed"].n_unique()
    difference_N = (pairs["accuracy"] - pairs["accuracy_b"]).to_numpy()
    found = paired_bootstrap(difference_N, cluster_numbers(pairs), seeds, resamples=resamples, random_seed=random_seed)
    over = f"{num_seeds} seeds and clusters" if num_seeds > 1 else "clusters"
    gain = round(float(difference_N.sum()) / num_seeds, 2)
    single = pairs["samples"].max() == 1 and pairs["samples_b"].max() == 1 and num_seeds == 1
    row: Row = {
        "a": a_name,
        "b": b_name,
        "dataset": dataset,
        "seed": seed,
        "prompt_mode": prompt_mode,
        "decoding": decoding,
        "image": image,
        "n": int(min(pairs["samples"].sum(), pairs["samples_b"].sum())),
        "questions": pairs.height,
        "clusters": pairs.select("dataset", "cluster").n_unique(),
        "difference": found.difference,
        "ci95": [found.low, found.high],
        "method": f"paired bootstrap over {over}, {resamples} resamples, percentile",
        "unpaired": num_questions - pairs.height,
        "gain_in_questions": gain,
        "gain": gain_sentence(gain, pairs.select("dataset", "item_id").n_unique(), single),
    }
    if single:
        only_a, only_b = int((difference_N > 0).sum()), int((difference_N < 0).sum())
        row |= {"only_a": only_a, "only_b": only_b, "mcnemar_p": mcnemar_exact(only_a, only_b)}
    return row


def gain_sentence(gain: float, questions: int, single: bool) -> str:
    """A difference as questions: "The whole difference is one question of 150." ``single``: one answer a question."""
    of, size = f"of {questions:,}", abs(gain)
    average = "" if single else ", on average over the answers to each"
    if size == 0:
        return f"Equally many right {of} questions{average}."
    if size == 1:
        return f"The whole difference is one question {of}{average}."
    if size < 1:
        return f"The whole difference is less than one question {of}{average}."
    return f"The difference is {size:,.10g} questions {of}{average}."


def pair_questions(a: pl.DataFrame, b: pl.DataFrame, a_name: str, b_name: str) -> pl.DataFrame:
    """The questions that both sides have a score for: ``accuracy``, ``samples`` of a and, with ``_b``, of b."""
    keys_a, keys_b = a.select(QUESTION).unique(), b.select(QUESTION).unique()
    only_a, only_b = keys_a.join(keys_b, on=QUESTION, how="anti"), keys_b.join(keys_a, on=QUESTION, how="anti")
    if only_a.height or only_b.height:
        raise DataError(
            f"{a_name} has {only_a.height} questions that {b_name} has not, {b_name} has {only_b.height} that {a_name}"
            " has not",
            "the same questions and seeds on both sides, or the difference is not paired",
            "evaluate both on the same dataset folder",
        )
    pairs = _by_question(a).join(_by_question(b).drop("cluster"), on=QUESTION, suffix="_b").sort(QUESTION)
    if pairs.is_empty():
        raise DataError(
            f"{a_name} and {b_name} share no scored question", "at least one", "look at the verdicts' errors"
        )
    return pairs


def _by_question(outcomes: pl.DataFrame) -> pl.DataFrame:
    return (
        scored(outcomes)
        .group_by(QUESTION)
        .agg(cluster=pl.col("cluster").first(), accuracy=pl.col("correct").mean(), samples=pl.len())
    )
