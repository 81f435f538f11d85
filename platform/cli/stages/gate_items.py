"""The gates at work on what was imported: rules and comparisons in a worker, the gates' teacher in a pipeline."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.asking import NECESSITY, RUBRIC, run_pipeline, seat_of
from residency.platform.cli.stages.pool_teacher import EngineTurns
from residency.platform.cli.stages.trace_parts import write_verdict_parts
from residency.platform.cluster import run_task
from residency.platform.dataset_folder import read_card
from residency.platform.errors import DataError
from residency.platform.gates_config import GatesConfig
from residency.platform.records import Item, Status, Verdict
from residency.synthesis.gated_dataset import TeacherWords, gate_dataset, kept_by_rules
from residency.synthesis.gates.decision import Outcome
from residency.synthesis.gates.image_necessity import Outcomes
from residency.synthesis.gates.rubric import PROMPT_NAME, PROMPT_VERSION, SCHEMA, parse_rating, rubric_decision
from residency.synthesis.pipeline.ledger import LEDGER, last_rows
from residency.synthesis.pipeline.seats import Seat
from residency.synthesis.pipeline.traces import read_texts
from residency.synthesis.routing.next_action import Routing

SECONDS_AN_ITEM = 0.05  # of a gate or a comparison, on a busy machine
BLIND = "#blank"  # behind an item's id: the same question with blank images


async def gate_items(crew: Crew) -> None:
    """``gated/`` with what may be used, and the evidence in ``lineage/``; the run's data point there afterwards."""
    run, config = crew.run, crew.recipe.data
    if config.gates is None and config.duplicates is None:
        return
    count = sum(crew.dataset.card.counts.values())
    benchmarks = dict.fromkeys((*crew.recipe.evaluation.datasets, *(d.benchmarks if (d := config.duplicates) else ())))
    compared = sum(sum(read_card(Path(folder)).counts.values()) for folder in benchmarks)
    seconds = crew.deadline + SECONDS_AN_ITEM * (count + compared)
    words = TeacherWords()
    if config.gates is not None and config.gates.teacher is not None:
        kept = await run_task(kept_by_rules, run.imported, config.gates, what="the gates", seconds=seconds)
        words = await ask_gate_teacher(crew, config.gates, [item for item in crew.dataset.items if item.id in kept])
    with crew.screen.steps("gates and duplicates", 1, "datasets") as steps:
        summary = await run_task(
            gate_dataset, run.imported, run.gated, run.path / "lineage", config.gates, config.duplicates,
            [Path(folder) for folder in benchmarks], words, what="gates and duplicates", seconds=seconds,
        )  # fmt: skip
        steps.advance()
    run.point_data(run.gated)
    crew.forget_dataset()
    run.update_summary(**summary)
    tell(crew, summary, count)


def tell(crew: Crew, summary: dict[str, Any], count: int) -> None:
    """What was left out, into the run's events and onto the screen: nothing goes silently."""
    gates, duplicates = summary.get("gates", {}), summary.get("duplicates", {})
    contamination = summary.get("contamination", {})
    refused, repeated = sum(gates.get("refused", {}).values()), duplicates.get("left_out", 0)
    left = sum(crew.dataset.card.counts.values())
    crew.run.event(
        "gated", items=count, left=left, refused=gates.get("refused", {}), marked=gates.get("marked", {}),
        pairs=duplicates.get("pairs", {}), contamination=contamination,
    )  # fmt: skip
    if refused or repeated:
        crew.screen.say(
            f"[yellow]gates[/] {left} of {count} items may be used: {refused} refused, {repeated} repeated or leaked"
            f" ({contamination.get('left_out', 0)} by benchmarks); lists to overrule in {crew.run.path / 'lineage'}"
        )


async def ask_gate_teacher(crew: Crew, config: GatesConfig, items: Sequence[Item]) -> TeacherWords:
    """The ratings and trials that the recipe asks for, exactly once each by the run's journal."""
    ratings = await rate(crew, config, items) if config.rubric else None
    outcomes = await try_blind(crew, config, items) if config.blank_samples else None
    write_verdict_parts(crew.run)
    return TeacherWords(ratings=ratings, outcomes=outcomes)


def gate_seat(crew: Crew, config: GatesConfig, part: str, turns: EngineTurns) -> Seat:
    assert config.teacher is not None
    number = len(crew.recipe.synthesis.teachers)  # its engines come after those of synthesis
    return seat_of(crew, number, config.teacher, part, turns)


async def rate(crew: Crew, config: GatesConfig, items: Sequence[Item]) -> dict[str, str]:
    """Item id → what the teacher replied to the rubric."""
    turns = EngineTurns()
    seat = gate_seat(crew, config, RUBRIC, turns)
    schema = SCHEMA if seat.structured else None
    seat = replace(seat, prompt=(PROMPT_NAME, PROMPT_VERSION), schema=schema, structured=False)
    routing = Routing(config=None, teachers=1, samples=1, temperature=0.0)
    folder = await run_pipeline(crew, RUBRIC, [seat], routing, items, turns, judge_ratings)
    texts = read_texts(folder)
    return {row["item_id"]: texts[row["trace_id"]][0] for row in last_rows(folder, LEDGER, "key")}


async def judge_ratings(pairs: Sequence[tuple[Item, str]]) -> list[Verdict]:
    """Right is a rating that can be read and refuses nothing: for the ledger, the gate itself decides later."""
    return [judge_rating(number, text) for number, (_, text) in enumerate(pairs)]


def judge_rating(number: int, text: str) -> Verdict:
    parts, evidence = {"accuracy": 0.0, "format": 0.0}, ""
    try:
        rating = parse_rating(text)
    except DataError as error:
        evidence = error.seen
    else:
        decision = rubric_decision(rating)
        parts = {"accuracy": float(decision.outcome is not Outcome.REFUSED), "format": 1.0}
        evidence = decision.evidence
    return Verdict(
        trace_id=str(number), status=Status.SCORED, score=parts["accuracy"], parts=parts, evidence=evidence,
        verifier="rubric", verifier_version=str(PROMPT_VERSION),
    )  # fmt: skip


async def try_blind(crew: Crew, config: GatesConfig, items: Sequence[Item]) -> dict[str, Outcomes]:
    """Right or wrong, sample by sample, of each item with its images and with blank ones."""
    shown = [item for item in items if item.media]
    blank = await crew.blanks(shown)
    blind = [replace(item, id=item.id + BLIND, media=blank[item.id]) for item in shown]
    turns = EngineTurns()
    seat = gate_seat(crew, config, NECESSITY, turns)
    routing = Routing(
        config=None, teachers=1, samples=config.blank_samples, temperature=crew.recipe.synthesis.temperature
    )
    folder = await run_pipeline(crew, NECESSITY, [seat], routing, [*shown, *blind], turns)
    right: dict[str, list[bool]] = {item.id: [] for item in (*shown, *blind)}
    for row in last_rows(folder, LEDGER, "key"):
        if row["accuracy"] is not None:
            right[row["item_id"]].append(row["accuracy"] == 1.0)
    return {item.id: Outcomes(right[item.id], right[item.id + BLIND]) for item in shown}
