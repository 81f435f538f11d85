"""The boards: every checkpoint answers every board's questions, on true and on other images; predictions are kept."""

from collections.abc import Callable, Sequence

import polars as pl

from residency.platform.arrow_tables import from_table
from residency.platform.cli.boards import Board
from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.sampling import sample
from residency.platform.cli.stages.scoring import score_run, score_sitting
from residency.platform.cli.stages.sittings import Sitting, folder_of, is_sat, note_sitting, plan_sittings
from residency.platform.records import REFUSED, Item, Split, Trace
from residency.platform.sampling import SamplingConfig
from residency.training.evaluation.predictions import predictions_table, write_predictions
from residency.training.evaluation.scoring.profiles import find_profile
from residency.training.evaluation.shuffling import shuffled_media

Advance = Callable[[int], None]


async def sit(crew: Crew, board: Board, sitting: Sitting, advance: Advance) -> None:
    """One sitting, kept on disk; the weights are already on the generators. What was sat before is not asked again."""
    items = items_of(board, sitting, crew.seed)
    if is_sat(crew.run, sitting):
        advance(len(items) * sitting.samples)
        return
    if not items:  # no image that could stand in another's place
        return
    sampling = SamplingConfig(temperature=sitting.temperature, max_new_tokens=crew.recipe.student.max_new_tokens)
    purpose = f"evaluate-{sitting.name}" if board.own else f"evaluate-{board.name}-{sitting.name}"
    tables = []
    async for batch in sample(
        crew,
        purpose,
        items,
        mode=sitting.prompt_mode,
        num_samples=sitting.samples,
        sampling=sampling,
        media=await other_media(crew, board, sitting, items),
        prompt_of=find_profile(crew.recipe.evaluation.profile).prompt,
    ):
        traces = from_table(batch.traces, Trace)
        tables.append(predictions_table(batch.items, traces, dataset=board.name, seed=crew.seed))
        advance(batch.traces.num_rows)
    predictions = pl.concat(tables)
    tell_refused(crew, board, sitting, predictions)
    write_predictions(folder_of(crew.run, sitting) / "predictions", predictions, items)
    note_sitting(crew.run, sitting, board.dataset.card.content_hash)


def tell_refused(crew: Crew, board: Board, sitting: Sitting, predictions: pl.DataFrame) -> None:
    """Questions that the engine did not take are errors of ours: counted apart, and told with the first reason."""
    refused = predictions.filter(pl.col("finish_reason") == REFUSED)
    if refused.height:
        crew.event(
            "questions_refused",
            board=board.name,
            sitting=sitting.name,
            refused=refused.height,
            of=predictions.height,
            cause=refused["text"][0],
        )


def items_of(board: Board, sitting: Sitting, seed: int) -> tuple[Item, ...]:
    """The questions of a sitting: other images can only be shown where there are images."""
    if sitting.split is not Split.HELD_OUT:
        return board.dataset.split(sitting.split)
    if sitting.image == "shuffled":
        exchanged = shuffled_media(board.items, seed)
        return tuple(item for item in board.items if item.id in exchanged)
    return board.items if sitting.image == "true" else board.items_with_media


async def other_media(
    crew: Crew, board: Board, sitting: Sitting, items: Sequence[Item]
) -> dict[str, tuple[str, ...]] | None:
    """The images that an image condition shows instead of the true ones (item id → hashes)."""
    match sitting.image:
        case "blank":
            return await crew.blanks(items)
        case "shuffled":
            return shuffled_media(board.items, crew.seed)
        case "none":
            return {item.id: () for item in items}
        case _:
            return None


async def choose_temperature(crew: Crew, board: Board, advance: Advance) -> float | None:
    """The temperature at which the SFT checkpoint does best on the tune split; None where the recipe tries none."""
    accuracy = {}
    for temperature in crew.recipe.evaluation.temperatures:
        sitting = Sitting(
            board=board.name, checkpoint="sft", temperature=temperature, samples=2, split=Split.TUNE
        )  # fmt: skip
        await sit(crew, board, sitting, advance)
        outcomes = score_sitting(crew.run, sitting, items_of(board, sitting, crew.seed), crew.recipe.evaluation.profile)
        accuracy[temperature] = float(outcomes["correct"].to_numpy().mean())
    return max(accuracy, key=lambda temperature: accuracy[temperature]) if accuracy else None


async def evaluate_stage(crew: Crew) -> None:
    """Sits every sitting that has not been sat yet (each is kept by itself), then scores them all."""
    recipe, by_name = crew.recipe, {board.name: board for board in crew.boards}
    names = (*recipe.evaluation.checkpoints, *recipe.rl.controls)
    best: float | None = None
    for name in [name for name in names if crew.has_checkpoint(name)]:
        await crew.put_on_generators(name)
        if name == "sft" and recipe.evaluation.temperatures:
            own = crew.boards[0]
            total = 2 * len(own.dataset.split(Split.TUNE)) * len(recipe.evaluation.temperatures)
            with crew.screen.steps("temperature on tune", total, "answers") as steps:
                best = await choose_temperature(crew, own, steps.advance)
        plan = plan_sittings(recipe, crew.boards, name, best)
        total = sum(len(items_of(by_name[sitting.board], sitting, crew.seed)) * sitting.samples for sitting in plan)
        with crew.screen.steps(f"evaluate {name}", total, "answers") as steps:
            for sitting in plan:
                await sit(crew, by_name[sitting.board], sitting, steps.advance)
    score_run(recipe, crew.run, crew.seed)
