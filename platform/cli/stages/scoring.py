"""From kept predictions to the summary's rows: nothing is generated, so it can be done again at any time."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from residency.platform.cli.boards import read_boards
from residency.platform.cli.stages.sittings import IMAGES, Sitting, folder_of, read_sittings
from residency.platform.recipe import Recipe
from residency.platform.records import Item, Split
from residency.platform.run_folder import RunFolder, write_whole
from residency.training.evaluation.comparisons import comparison_row, evaluation_row
from residency.training.evaluation.image_worth import image_worth_row
from residency.training.evaluation.markdown import markdown_comparisons, markdown_seven, markdown_table
from residency.training.evaluation.predictions import read_predictions, rescore
from residency.training.evaluation.scoring.profile_difference import compare_profiles
from residency.training.evaluation.scoring.profiles import PROFILES, find_profile
from residency.training.evaluation.seven_mean import seven_means
from residency.training.evaluation.slices import slice_rows

Outcomes = Mapping[Sitting, pl.DataFrame]
Items = Mapping[str, Sequence[Item]]  # of each board
Row = dict[str, Any]


def items_of_boards(recipe: Recipe, run: RunFolder) -> Items:
    return {board.name: board.items for board in read_boards(recipe, run)}


def score_sitting(run: RunFolder, sitting: Sitting, items: Sequence[Item], profile_name: str) -> pl.DataFrame:
    """Outcomes of one sitting under a profile; kept by the profile's label, so a new version scores anew."""
    profile, folder = find_profile(profile_name), folder_of(run, sitting)
    path = folder / f"outcomes-{profile.label}.parquet"
    if path.is_file():
        return pl.read_parquet(path)
    outcomes = rescore(read_predictions(folder / "predictions.parquet"), items, profile)
    write_whole(path, lambda aside: outcomes.write_parquet(aside))
    return outcomes


def forget_scores(run: RunFolder) -> None:
    """Every kept outcome goes; predictions stay."""
    for path in run.evaluation.glob("*/*/outcomes-*.parquet"):
        path.unlink()


def outcomes_of(recipe: Recipe, run: RunFolder, profile_name: str) -> dict[Sitting, pl.DataFrame]:
    """Outcomes of every held-out sitting that the run has sat, in the order of the tables."""
    boards = {board.name: board for board in read_boards(recipe, run)}
    return {
        sitting: score_sitting(run, sitting, boards[sitting.board].dataset.items, profile_name)
        for sitting in read_sittings(run)
        if sitting.split is Split.HELD_OUT and sitting.board in boards
    }


def score_run(recipe: Recipe, run: RunFolder, seed: int) -> None:
    """Writes the summary's rows of one seed, under every profile; comparisons under the recipe's own."""
    outcomes = {name: outcomes_of(recipe, run, name) for name in PROFILES}
    write_rows(recipe, run, outcomes, items_of_boards(recipe, run), seed)
    write_markdown(run)


def pool_runs(recipe: Recipe, run: RunFolder, runs: Sequence[RunFolder]) -> None:
    """The summary over seeds: pooled rows (seed null) of what all seeds have sat, then every seed's own."""
    by_profile = {name: [outcomes_of(recipe, sub, name) for sub in runs] for name in PROFILES}
    shared = {
        name: {
            sitting: pl.concat([outcomes[sitting] for outcomes in of_seeds])
            for sitting in of_seeds[0]
            if all(sitting in outcomes for outcomes in of_seeds)
        }
        for name, of_seeds in by_profile.items()
    }
    write_rows(recipe, run, shared, items_of_boards(recipe, runs[0]), None)
    parts = run.summary()
    summaries = [sub.summary() for sub in runs]
    run.update_summary(
        **{
            name: parts[name] + [row for one in summaries for row in one.get(name, [])]
            for name in ("evaluation", "comparisons", "slices", "seven_means")
        }
    )
    write_markdown(run)


def write_rows(
    recipe: Recipe, run: RunFolder, outcomes: Mapping[str, Outcomes], items: Items, seed: int | None
) -> None:
    """Every derived part of the summary from the outcomes of each profile."""
    own = recipe.evaluation.profile
    by_profile = {name: evaluation_rows(done, seed, find_profile(name).label) for name, done in outcomes.items()}
    rows = by_profile[own] + [row for name in by_profile if name != own for row in by_profile[name]]
    run.update_summary(
        evaluation=rows,
        comparisons=comparison_rows(outcomes[own], seed, recipe.evaluation.bootstrap_resamples),
        slices=sliced_rows(outcomes[own], items, seed, find_profile(own).label),
        profile_differences=compare_profiles(rows),
        seven_means=seven_means(rows),
    )


def write_markdown(run: RunFolder) -> None:
    """``evaluation/results.md``: the summary's tables as they go into a paper's appendix."""
    summary = run.summary()
    parts = [
        "# Results",
        markdown_table(summary["evaluation"]),
        "## Comparisons",
        markdown_comparisons(summary["comparisons"]),
    ]
    if summary["seven_means"]:
        parts += ["## Mean of the seven benchmarks", markdown_seven(summary["seven_means"])]
    if summary["profile_differences"]:
        parts += ["## Where the profiles differ", *[f"- {line}" for line in summary["profile_differences"]]]
    text = "\n\n".join(part.strip() for part in parts) + "\n"
    write_whole(run.evaluation / "results.md", lambda aside: aside.write_text(text))


def sliced_rows(done: Outcomes, items: Items, seed: int | None, label: str) -> list[Row]:
    """Slices of every greedy sitting on true images."""
    return [
        row
        for sitting, outcomes in done.items()
        if sitting.image == "true" and sitting.temperature == 0
        for row in slice_rows(
            outcomes,
            items[sitting.board],
            checkpoint=sitting.checkpoint,
            dataset=sitting.board,
            seed=seed,
            prompt_mode=sitting.prompt_mode.value,
            decoding=sitting.decoding,
            image=sitting.image,
            profile=label,
        )
    ]


def evaluation_rows(done: Outcomes, seed: int | None, label: str) -> list[Row]:
    return [
        evaluation_row(
            outcomes,
            checkpoint=sitting.checkpoint,
            dataset=sitting.board,
            seed=seed,
            prompt_mode=sitting.prompt_mode.value,
            decoding=sitting.decoding,
            image=sitting.image,
            profile=label,
        )
        for sitting, outcomes in done.items()
    ]


def comparison_rows(done: Outcomes, seed: int | None, resamples: int) -> list[Row]:
    """RL − SFT and RL − controls, SFT − base, and what the image is worth to each checkpoint, board by board."""
    by_likeness = {sitting.like(): sitting for sitting in done}
    rows: list[Row] = []
    for sitting, outcomes in done.items():
        if sitting.image != "true" or sitting.temperature not in (0.0, 1.0):
            continue
        labels: Row = {
            "dataset": sitting.board, "seed": seed, "prompt_mode": sitting.prompt_mode.value,
            "decoding": sitting.decoding, "resamples": resamples,
        }  # fmt: skip
        for name in {"rl": ("sft", "sft_continued", "rl_permuted"), "sft": ("base",)}.get(sitting.checkpoint, ()):
            if other := by_likeness.get(sitting.like(checkpoint=name)):
                rows.append(
                    comparison_row(
                        outcomes, done[other], a_name=sitting.checkpoint, b_name=name, image="true", **labels
                    )
                )
        for image in IMAGES[1:]:
            if other := by_likeness.get(sitting.like(image=image)):
                rows.append(
                    image_worth_row(outcomes, done[other], checkpoint=sitting.checkpoint, condition=image, **labels)
                )
    return rows
