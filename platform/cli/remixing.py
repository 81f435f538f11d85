"""The mixture once more, from the examples that a run made: after a review, and for the arms of an ablation."""

from dataclasses import asdict

from residency.platform.arrow_tables import write_parquet
from residency.platform.dataset_folder import stream_items
from residency.platform.errors import BadInputError
from residency.platform.recipe import Recipe
from residency.platform.records import Split
from residency.platform.run_folder import RunFolder
from residency.synthesis.lineage.pool_file import read_edits, read_pool
from residency.synthesis.mixture import MixtureReport, mix, modalities_table
from residency.synthesis.review.waiting import queued, read_decisions, released


def sft_has_begun(run: RunFolder) -> bool:
    """Whether something was trained on this run's mixture already."""
    return "sft" in run.finished_stages() or any(run.checkpoints.glob("sft*"))


def remix(run: RunFolder, recipe: Recipe, seed: int) -> MixtureReport:
    """Writes ``examples.parquet`` anew, by this recipe's quotas; raises BadInputError where SFT has begun."""
    if sft_has_begun(run):
        raise BadInputError(
            f"{run.path} has been trained on its mixture",
            "a run whose SFT has not begun",
            f"review before SFT: `residency synthesize` first; or `residency retry {run.path} --into NEW_RUN`",
        )
    pool, decisions = read_pool(run.path), read_decisions(run.path)
    waiting = queued(pool, recipe.synthesis.review, seed)
    free = released(pool, waiting, decisions, read_edits(run.path))
    modalities = modalities_table(item for item in stream_items(run.data) if item.split is Split.TRAIN)
    mixture, report = mix(free, recipe.mixture, seed, modalities)
    write_parquet(mixture, run.examples)
    synthesis = {**run.summary().get("synthesis", {}), "mixture": asdict(report)}
    if waiting:
        synthesis["waiting_for_review"] = len(waiting - decisions.keys())
    run.update_summary(synthesis=synthesis)
    return report
