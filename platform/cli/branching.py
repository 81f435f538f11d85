"""A new run that goes on from another one's finished stages, without touching that one."""

import shutil
from pathlib import Path

from residency.platform.errors import BadInputError
from residency.platform.journal.journal import Journal
from residency.platform.journal.reader import read_state
from residency.platform.journal.records import Admitted, Failed, Judged, Record, Requested
from residency.platform.journal.state import Progress, Stage
from residency.platform.run_folder import RunFolder

FIRST_STAGES = ("data", "student", "pretrain", "warm_up", "synthesize")
LINKED = ("initial", "base", "warm_up")  # checkpoints that these stages made
COPIED = ("synthesis", "lineage/pool.parquet", "lineage/edits.parquet", "lineage/reviews.jsonl",
          "lineage/outcomes.parquet", "lineage/gates.csv", "lineage/duplicates", "examples.parquet")  # fmt: skip
KEPT_SUMMARY = ("data", "gates", "duplicates", "contamination", "synthesis")
SYNTHESIS_KEYS = "synth"


def branch_run(run: RunFolder, new: Path, last_stage: str, with_requests: bool = False) -> RunFolder:
    """The new run's folder: data and checkpoints linked, synthesis copied, stages up to ``last_stage`` done.

    ``with_requests``: the journal's requests of synthesis come along, so that what was answered is not asked again.
    Raises BadInputError where ``new`` holds something, or where ``run`` has not come so far.
    """
    done = run.finished_stages()
    stages = FIRST_STAGES[: FIRST_STAGES.index(last_stage) + 1]
    if new.exists() and any(new.iterdir()):
        raise BadInputError(f"{new} holds something already", "a new folder", "choose another one, or remove it")
    if not {"data", "student"} <= done.keys() or (last_stage == "synthesize" and last_stage not in done):
        raise BadInputError(f"{run.path} has not come so far", f"a run with {last_stage} done", "let it go on first")
    branch = RunFolder(new)
    branch.checkpoints.mkdir(parents=True, exist_ok=True)
    branch.data.symlink_to(run.data.resolve(), target_is_directory=True)
    for name in LINKED:
        if (run.checkpoints / name).exists():
            (branch.checkpoints / name).symlink_to((run.checkpoints / name).resolve(), target_is_directory=True)
    for name in COPIED:
        copy(run.path / name, branch.path / name)
    for kind in ("traces", "verdicts"):
        for part in (run.path / kind).glob("part-synthesize-*.arrow"):
            copy(part, branch.path / kind / part.name)
    if with_requests:
        copy_requests(run, branch)
    for stage in stages:
        if stage in done:
            branch.finish_stage(stage, done[stage])
    kept = {name: part for name, part in run.summary().items() if name in KEPT_SUMMARY}
    branch.update_summary(**kept, seconds=branch.finished_stages())
    branch.event("branched", source=str(run.path), stages=list(branch.finished_stages()))
    return branch


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def copy_requests(run: RunFolder, branch: RunFolder) -> None:
    """The journal of the branch: how far each request of synthesis has come, and nothing of training."""
    state = read_state(run.path / "journal")
    with Journal.open(branch.path / "journal") as journal:
        for key, progress in state.keys.items():
            if key.startswith(SYNTHESIS_KEYS):
                journal.append(*records_of(progress))
        journal.commit()


def records_of(progress: Progress) -> list[Record]:
    """The shortest way for a key to where it is; what was in flight waits again."""
    key = progress.admitted.key
    records: list[Record] = [Admitted(key, progress.admitted.request)]
    if progress.answer is not None:
        records += [Requested(key, progress.answer.worker, max(progress.asked, 1)), progress.answer]
    if progress.verdict is not None:
        records.append(Judged(key, progress.verdict.scores, progress.verdict.refs))
    if progress.stage is Stage.FAILED:
        records.append(Failed(key, progress.cause))
    return records
