"""What ends a run whose sampler and trainer differ: the learner's weights set aside, and the likely layer named."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.step_batch import StepGroup
from residency.platform.cluster import run_task
from residency.platform.errors import RoleError
from residency.platform.prompts import render_prompt
from residency.platform.records import PolicyVersion, PromptMode
from residency.training.losses import LossConfig
from residency.training.mismatch.meter import MismatchError
from residency.training.step_checkpoints import saved_steps, step_folder

if TYPE_CHECKING:  # it imports torch
    from residency.training.mismatch.diagnosis import Diagnosis


def diagnose_in_worker(
    known: Mapping[str, Any], batch: pa.Table, media: pa.Table, *traces: pa.Table
) -> "tuple[Diagnosis, dict[str, Any]]":
    """Run in a Ray worker: the diagnosis, and what of it goes into the run's events."""
    from residency.training.mismatch.step_diagnosis import diagnose_step

    diagnosis = diagnose_step(pa.concat_tables(traces), batch, media, **known)
    return diagnosis, diagnosis.details()


async def diagnosed(
    crew: Crew,
    role: str,
    step: int,
    groups: Sequence[StepGroup],
    batch_ref: Any,
    loss: LossConfig,
    measured: float,
    budget: float,
    error: MismatchError,
) -> MismatchError:
    """The error that ends the run, with its likely cause where one is found. The checkpoint stays for a closer look."""
    version: PolicyVersion = await crew.learners.policy_version()
    folder = await crew.learners.save_checkpoint(crew.checkpoint(f"{role}-mismatch"))
    steps = crew.checkpoint(f"{role}-steps")
    older = {f"step {number}": step_folder(steps, number) for number in reversed(saved_steps(steps))}
    prompts = {item.id: render_prompt(item, PromptMode.THINK) for item in crew.dataset.items}
    known = {
        "folder": folder, "version": version, "loss": loss, "dtype": crew.profile.dtype, "measured": measured,
        "budget": budget, "prompts": prompts, "older": {**older, "sft": crew.checkpoint("sft")},
        "generators_folder": crew.checkpoint("base"), "digests": crew.weights.digests, "echoes": crew.weights.echoes,
        "trust_remote_code": crew.recipe.student.trust_remote_code,
    }  # fmt: skip
    traces = list(dict.fromkeys(group.traces_ref for group in groups))
    try:
        diagnosis, details = await run_task(
            diagnose_in_worker, known, batch_ref, await crew.media(), *traces,
            what="diagnosing a mismatch", seconds=crew.deadline,
        )  # fmt: skip
    except RoleError as failure:  # the stop is what matters: it must not be hidden by its own diagnosis
        crew.event("mismatch", role=role, step=step, layer="not diagnosed", cause=str(failure))
        return error
    crew.event("mismatch", role=role, step=step, **details)
    return diagnosis.error(step)
