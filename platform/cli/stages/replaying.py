"""One optimizer step of RL once more, from what the run has on disk: nothing is generated, and the run is not touched.

The journal says which groups each step took and in which order, ``traces/`` holds their tokens and logprobs, the
journal their scores. Learners go on from the newest state checkpoint before the step, or from the SFT checkpoint.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from residency.platform.cli.crew import Crew
from residency.platform.cli.screen import Screen
from residency.platform.cli.stages.rl_loss import loss_config
from residency.platform.cli.stages.step_batch import StepBatch, StepGroup, build_step, permuted_scores
from residency.platform.cluster import put
from residency.platform.errors import BadInputError, DataError, LostObjectError
from residency.platform.journal.journal import Journal
from residency.platform.journal.reader import read_state
from residency.platform.journal.state import JournalState, Progress
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.report.run_files import PART, read_lines
from residency.platform.run_folder import RunFolder
from residency.training.batch_stats import BatchStats, StepStats
from residency.training.step_checkpoints import newest_whole

FIRST_CHECKPOINT = "sft"  # where RL and its control begin


@dataclass(frozen=True, kw_only=True)
class ReplayPlan:
    """What is to be trained on from where. ``steps`` are (number, keys), the last of them the one that is asked for.

    One without keys was skipped: it has no gradient, but the learning rate's schedule counts it.
    """

    role: str
    step: int
    checkpoint: str
    checkpoint_step: int
    steps: tuple[tuple[int, tuple[str, ...]], ...]
    loss: float
    gradient_norm: float


def plan_replay(run: RunFolder, journal: JournalState, role: str, step: int) -> ReplayPlan:
    """Raises BadInputError for a step that was not trained on, DataError where its metrics are absent."""
    trained = [(version, keys) for version, keys in journal.learner(role).steps()]
    if not trained:
        raise BadInputError(
            f"{run.path} has no optimizer step of {role} in its journal",
            "a run whose RL has begun",
            "give the folder of one (of a single seed's run, where there are several seeds)",
        )
    numbers = [number for (_, number), _ in trained]
    keys_of = {number: keys for (_, number), keys in trained}
    if step not in keys_of and numbers[0] <= step <= numbers[-1]:
        raise skipped(role, step)
    if step not in keys_of:
        raise BadInputError(
            f"step {step} of {role} was never trained; the journal holds steps {numbers[0]} to {numbers[-1]}",
            "a step that was",
            f"give --step {numbers[-1]} for the last one",
        )
    if not keys_of[step]:
        raise skipped(role, step)
    loss, gradient_norm = logged(run, role, step)
    newest, _ = newest_whole(run.checkpoints / f"{role}-steps", step - 1)
    at = 0 if newest is None else newest.step
    return ReplayPlan(
        role=role,
        step=step,
        checkpoint=FIRST_CHECKPOINT if newest is None else str(newest.folder.relative_to(run.checkpoints)),
        checkpoint_step=at,
        steps=tuple((number, keys) for number, keys in keys_of.items() if at < number <= step),
        loss=loss,
        gradient_norm=gradient_norm,
    )


def skipped(role: str, step: int) -> BadInputError:
    return BadInputError(
        f"step {step} of {role} was skipped: none of its groups had different rewards, so nothing was trained",
        "a step that was trained",
        "give another --step",
    )


def logged(run: RunFolder, role: str, step: int) -> tuple[float, float]:
    """Loss and gradient norm that the run wrote for an optimizer step: the last ones, where it was trained on again."""
    rows: dict[int, dict[str, float]] = {}
    for row in read_lines(run.path / "metrics.jsonl"):
        if row["role"] == role and row["name"] in ("optimizer_step", "loss", "grad_norm"):
            rows.setdefault(row["step"], {})[row["name"]] = row["value"]
    for values in rows.values():
        if values.get("optimizer_step") == step and {"loss", "grad_norm"} <= values.keys():
            return values["loss"], values["grad_norm"]
    raise DataError(
        f"{run.path / 'metrics.jsonl'} has no loss and gradient norm of optimizer step {step} of {role}",
        "what the run wrote after the step",
        "the driver was killed right after this step, or an older Residency made the run: give another --step",
    )


def recorded_groups(
    run: RunFolder, journal: JournalState, role: str, seed: int, keys: Sequence[str]
) -> list[StepGroup]:
    """The groups of a step as the journal has them. Puts each part that they are in into the object store, once."""
    parts: dict[str, tuple[Any, dict[str, list[str]]]] = {}
    groups = []
    for key in keys:
        progress = journal.keys[key]
        name, scores = answered_in(key, progress), scores_of(key, progress)
        if name not in parts:
            traces = read_named(run, name)
            parts[name] = put(traces), ids_by_item(traces)
        traces_ref, ids = parts[name]
        groups.append(
            StepGroup(
                key=key,
                trace_ids=tuple(ids[key.rpartition("/")[2]]),
                scores=permuted_scores(scores, seed, key) if role == "rl_permuted" else scores,
                traces_ref=traces_ref,
            )
        )
    return groups


async def build_kept_step(crew: Crew, role: str, groups: Sequence[StepGroup]) -> StepBatch:
    """The batch of judged groups; rollouts that a node has taken with it are read back from the run's folder."""
    try:
        return await build_step(crew, groups)
    except LostObjectError as error:
        keys = [group.key for group in groups]
        crew.event("rollouts_read_back", role=role, groups=len(keys), cause=str(error))
        return await build_step(crew, recorded_groups(crew.run, crew.journal.state, role, crew.seed, keys))


def answered_in(key: str, progress: Progress) -> str:
    """The part that holds a key's traces."""
    if progress.answer is None or not progress.answer.refs:
        raise DataError(f"the journal does not say where the rollouts of {key} are", "a part in traces/")
    return progress.answer.refs[0]


def scores_of(key: str, progress: Progress) -> tuple[float | None, ...]:
    if progress.verdict is None:
        raise DataError(f"the journal has no scores of {key}", "a judged group")
    return progress.verdict.scores


def read_named(run: RunFolder, name: str) -> pa.Table:
    """The part of that name; StorageError where it is gone or damaged."""
    kind, _, file = name.partition("/")
    found = PART.fullmatch(file)
    if found is None:
        raise DataError(f"the journal names {name!r} as a part", "traces/part-<purpose>-<number>.arrow")
    return run.read_part(kind, found["stage"], int(found["number"]))


def ids_by_item(traces: pa.Table) -> dict[str, list[str]]:
    """Item id → ids of its traces, in the order of the table."""
    ids: dict[str, list[str]] = {}
    for item_id, trace_id in zip(traces.column("item_id").to_pylist(), traces.column("id").to_pylist(), strict=True):
        ids.setdefault(item_id, []).append(trace_id)
    return ids


@contextmanager
def scratch_of(run: RunFolder) -> Iterator[RunFolder]:
    """A folder that reads the run's data and checkpoints, and takes what a crew writes in the run's place."""
    home = Path(tempfile.mkdtemp(prefix="residency-replay-"))
    try:
        scratch = RunFolder(home)
        scratch.data, scratch.checkpoints = run.data, run.checkpoints
        yield scratch
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def replay(
    run: RunFolder, recipe: Recipe, profile: Profile, plan: ReplayPlan, screen: Screen
) -> tuple[BatchStats, StepStats]:
    """Trains up to the plan's step, on learners alone, and says what that step came to. Ray must be running."""
    config, seed = recipe.rl, recipe.seeds[0]
    alone = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"datasets": ()})})
    journal = read_state(run.path / "journal")
    loss = loss_config(config, recipe.student.max_new_tokens)
    with scratch_of(run) as scratch, Journal.open(scratch.path / "journal") as own:
        async with Crew(alone, profile, scratch, seed, screen, own) as crew:
            resume = plan.checkpoint_step > 0
            await crew.load_learners(plan.checkpoint, config.optimizer, config.steps, lora=config.lora, resume=resume)
            if config.kl is not None:
                await crew.learners.hold_reference(crew.checkpoint(FIRST_CHECKPOINT))
            done: tuple[BatchStats, StepStats] | None = None
            with screen.steps(f"replaying {plan.role}", len(plan.steps), "steps") as steps:
                for _, keys in plan.steps:
                    if not keys:
                        await crew.learners.skip_step()
                        continue
                    batch = await build_step(crew, recorded_groups(run, journal, plan.role, seed, keys))
                    trained = await crew.learners.forward_backward(batch.batch_ref, None, loss)
                    done = trained, await crew.learners.optim_step()
                    steps.advance(1)
            assert done is not None, "a plan has at least its own step"
            return done
