"""The checkpoints on a stage's way, ``step-000040`` and so on: the newest whole one, and which are kept."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.platform.errors import ResidencyError
from residency.training.learner_state import read_state

NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCheckpoint:
    """A whole one; ``mapping`` is what the stage saved with it, its data position included."""

    step: int
    folder: Path
    mapping: Mapping[str, Any]


def step_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return root / f"step-{step:06d}"


def saved_steps(root: Path) -> list[int]:
    """Steps that have a checkpoint, whole or not, in order."""
    found = (NAME.fullmatch(path.name) for path in root.glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def newest_whole(root: Path, most: int | None = None) -> tuple[StepCheckpoint | None, dict[Path, str]]:
    """The newest checkpoint (of at most step ``most``) whose files are as they were written; None where there is none.

    Beside it the newer ones that are damaged, each with what is wrong.
    """
    damaged: dict[Path, str] = {}
    for step in reversed([step for step in saved_steps(root) if most is None or step <= most]):
        folder = step_folder(root, step)
        try:
            state = read_state(folder)
        except ResidencyError as error:
            damaged[folder] = error.seen
        else:
            return StepCheckpoint(step=step, folder=folder, mapping=state.mapping), damaged
    return None, damaged


def last_steps(steps: Sequence[int], newest: int, keep_last: int) -> list[int]:
    """The ``keep_last`` up to step ``newest``."""
    return [step for step in steps if step <= newest][-keep_last:]


def keep_by_rule(root: Path, newest: int, keep_last: int, best: int | None) -> list[int]:
    """Delete all but the ``keep_last`` up to step ``newest``, and the best one; returns the steps that went.

    Called once ``newest`` is whole. Those after it are damaged ones that were passed over: they go as well. A folder
    is renamed before it is emptied, so that no half of one has its name.
    """
    for left in root.glob(".step-*.gone"):  # by a driver that was killed while it deleted
        shutil.rmtree(left, ignore_errors=True)
    steps = saved_steps(root)
    kept = {*last_steps(steps, newest, keep_last), best}
    gone = [step for step in steps if step not in kept]
    for step in gone:
        folder = step_folder(root, step)
        aside = folder.rename(folder.with_name(f".{folder.name}.gone"))
        shutil.rmtree(aside, ignore_errors=True)
    return gone
