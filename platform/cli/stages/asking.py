"""The teachers at work: one pipeline over all that sample, one over the annotations, on this run's journal."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from residency.platform.arrow_tables import from_table, to_table
from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.pool_teacher import EngineTurns, PoolTeacher, folder_revision
from residency.platform.cluster import put
from residency.platform.errors import RoleError
from residency.platform.pool.pool import Pool
from residency.platform.recipe import TeacherConfig
from residency.platform.records import Item, PromptMode, Trace, Verdict, short_hash
from residency.synthesis.pipeline.accounts import Judge, PipelineReport
from residency.synthesis.pipeline.ledger import read_outcomes
from residency.synthesis.pipeline.pipeline import Pipeline
from residency.synthesis.pipeline.seats import Seat
from residency.synthesis.pipeline.traces import read_traces
from residency.synthesis.routing.next_action import Routing
from residency.synthesis.teachers.annotations import AnnotationsTeacher
from residency.synthesis.teachers.openai_teacher import OpenAITeacher

DEAD_LETTERS_ALLOWED = 0.01  # share of the items; above it something is broken that a person should mend first
TEACHERS, ANNOTATIONS, WRONG = "synth", "synth-annotations", "synth-wrong"  # the journal's prefixes
RUBRIC, NECESSITY = "gate-rubric", "gate-necessity"
FOLDERS = {
    TEACHERS: "synthesis", ANNOTATIONS: "synthesis/annotations", WRONG: "synthesis/wrong",
    RUBRIC: "gates/rubric", NECESSITY: "gates/necessity",
}  # fmt: skip


def item_seed(seed: int, prefix: str, item: Item) -> int:
    """31 bits; sample n of the item is drawn with this seed + n."""
    return int(short_hash(str(seed), prefix, item.id), 16) >> 33


def folder_of(run: Path, prefix: str) -> Path:
    """Where the logs of these keys lie."""
    return run / FOLDERS[prefix]


async def judge_pairs(crew: Crew, pairs: Sequence[tuple[Item, str]]) -> list[Verdict]:
    """Verdicts of texts by the verifiers' pool, in their order."""
    traces = [
        Trace(
            id=str(number), item_id=item.id, role="teacher", model="", prompt_mode=PromptMode.THINK, prompt_hash="",
            seed=0, sample_index=0, text=text, finish_reason="stop",
        )
        for number, (item, text) in enumerate(pairs)
    ]  # fmt: skip
    items = list({item.id: item for item, _ in pairs}.values())
    verdicts = from_table(await crew.judge(put(to_table(traces, Trace)), items), Verdict)
    by_trace = {verdict.trace_id: verdict for verdict in verdicts}
    return [by_trace[trace.id] for trace in traces]


def seat_of(crew: Crew, number: int, teacher: TeacherConfig, part: str, turns: EngineTurns) -> Seat:
    """The teacher behind its protocol; engines start with its first question."""
    if teacher.kind == "openai":
        return Seat(teacher=OpenAITeacher(teacher, crew.read_png, crew.seed), structured=teacher.structured)
    if teacher.kind == "policy":

        async def open_policy() -> tuple[Pool, str]:
            await crew.put_on_generators("warm_up")
            return await crew.generators(), crew.weights_digest[:16]

        engines = crew.profile.generators.most_actors
        # the policy's engines stay: they are needed again, and take no turns
        policy = PoolTeacher(crew, "policy", part, engines, open_policy, None, EngineTurns())
        return Seat(teacher=policy, student_prompt=True)
    model = Path(str(teacher.model))

    async def open_model() -> tuple[Pool, str]:
        return await crew.teachers(number, str(model)), folder_revision(model)

    async def close_model() -> None:
        await crew.close_teachers(number)

    engines = crew.profile.teachers.most_actors
    return Seat(teacher=PoolTeacher(crew, model.name, part, engines, open_model, close_model, turns))


def sampling_teachers(crew: Crew) -> list[tuple[int, TeacherConfig]]:
    """Those that are asked, with their place in the recipe."""
    numbered = enumerate(crew.recipe.synthesis.teachers)
    return [(number, teacher) for number, teacher in numbered if teacher.kind != "annotations"]


async def ask_teachers(crew: Crew, items: Sequence[Item]) -> Path:
    """The folder of what all sampling teachers said: an item goes from one to the next in one pipeline."""
    config = crew.recipe.synthesis
    turns = EngineTurns()
    seats = [
        seat_of(crew, number, teacher, f"synthesize-{number}", turns) for number, teacher in sampling_teachers(crew)
    ]
    routing = Routing.of(config, len(seats))
    return await run_pipeline(crew, TEACHERS, seats, routing, items, turns)


async def ask_for_wrong(crew: Crew, items: Sequence[Item]) -> Path:
    """The folder of what the first teacher says at a higher temperature, so that it errs now and then."""
    reflection, turns = crew.recipe.synthesis.reflection, EngineTurns()
    number, teacher = sampling_teachers(crew)[0]
    seat = seat_of(crew, number, teacher, f"synthesize-wrong-{number}", turns)
    routing = Routing(
        config=None, teachers=1, samples=reflection.wrong_samples, temperature=reflection.wrong_temperature
    )
    return await run_pipeline(crew, WRONG, [seat], routing, items, turns)


async def ask_annotations(crew: Crew, items: Sequence[Item]) -> Path:
    """The folder of the items' own facts in words, each judged like any other trace."""
    seat = Seat(teacher=AnnotationsTeacher(), student_prompt=True)
    routing = Routing(config=None, teachers=1, samples=1, temperature=0.0)
    return await run_pipeline(crew, ANNOTATIONS, [seat], routing, items, EngineTurns())


async def run_pipeline(
    crew: Crew,
    prefix: str,
    seats: Sequence[Seat],
    routing: Routing,
    items: Sequence[Item],
    turns: EngineTurns,
    judge: Judge | None = None,
) -> Path:
    """The pipeline's folder, once every item has its end or a dead letter.

    Raises RoleError where the budget is spent or too much failed for good: mended, the same command goes on.
    """
    recipe, folder = crew.recipe, folder_of(crew.run.path, prefix)
    names = ", ".join(seat.teacher.name for seat in seats)
    with crew.screen.steps(f"asking {names}", len(items), "items") as steps:
        pipeline = Pipeline(
            journal=crew.journal,
            queue=crew.queue,
            folder=folder,
            seats=seats,
            routing=routing,
            judge=judge or (lambda pairs: judge_pairs(crew, pairs)),
            max_tokens=longest_reply(crew, seats),
            budget=None if prefix == ANNOTATIONS else recipe.synthesis.budget,
            also_spent=[folder_of(crew.run.path, other) for other in FOLDERS if other not in (prefix, ANNOTATIONS)],
            seed_of=lambda item: item_seed(crew.seed, prefix, item),
            prefix=prefix,
            on_ended=Advance(steps.advance),
        )
        turns.is_quiet = lambda: pipeline.is_quiet
        report = await pipeline.run(items)
    tell(crew, prefix, names, report)
    if report.stopped:
        raise RoleError(f"synthesis stopped: {report.stopped}", "", "nothing is lost: the same command goes on")
    if report.dead_letters > DEAD_LETTERS_ALLOWED * len(items):
        cause = crew.queue.dead_letters(f"{prefix}/")[0].cause
        raise RoleError(
            f"{report.dead_letters} of {len(items)} items have a request that failed for good, the first: {cause}",
            f"at most {DEAD_LETTERS_ALLOWED:.0%}",
            f"mend the cause, then `residency retry {crew.run.path}` and start the run again",
        )
    return folder


class Advance:
    """Turns the number of items that have ended into steps of a progress bar."""

    def __init__(self, advance: Callable[[int], object]) -> None:
        self._advance, self._done = advance, 0

    def __call__(self, ended: int) -> None:
        self._advance(ended - self._done)
        self._done = ended


def longest_reply(crew: Crew, seats: Sequence[Seat]) -> int:
    """The policy's engines are set up for the student's lengths; other teachers have their own."""
    student, asked = crew.recipe.student.max_new_tokens, crew.recipe.synthesis.max_tokens
    has_policy = any(seat.student_prompt for seat in seats)
    return student if has_policy or asked is None else asked


def tell(crew: Crew, prefix: str, names: str, report: PipelineReport) -> None:
    """What this start came to, into the run's events."""
    spent = report.spent
    crew.run.event(
        "teachers_asked", prefix=prefix, teachers=names, accepted=report.accepted, rejected=report.rejected,
        dead_letters=report.dead_letters, finished_before=report.finished_before, stopped=report.stopped,
        tokens_in=spent.tokens_in, tokens_out=spent.tokens_out, money=round(spent.money, 6),
        seconds=round(spent.seconds, 1),
    )  # fmt: skip


def tables_of(folder: Path) -> tuple[pa.Table, pa.Table]:
    """(traces, verdicts) of a finished pipeline."""
    pairs = list(read_traces(folder))
    return to_table([trace for trace, _ in pairs], Trace), to_table([verdict for _, verdict in pairs], Verdict)


def solved_items(folder: Path) -> set[str]:
    """Items that ended accepted."""
    outcomes = read_outcomes(folder)
    rows = zip(outcomes.column("item_id").to_pylist(), outcomes.column("decision").to_pylist(), strict=True)
    return {item_id for item_id, decision in rows if decision == "accepted"}
