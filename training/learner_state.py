"""What a state checkpoint says of itself: ``state/state.json``, written last, with the SHA-256 of every file. No torch.

DeepSpeed's files are pickles: nothing of them is opened before its digest is that of the record, and the record's own.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from residency.platform.errors import ModelError

STATE_FOLDER = "state"
RECORD = f"{STATE_FOLDER}/state.json"
RECORD_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerState:
    """Where the learner group stood. ``mapping`` is the caller's own (its data position), as it gave it.

    ``files``: path below the checkpoint folder → SHA-256, of every file in it but the record.
    """

    step: int
    incarnation: int
    num_ranks: int
    zero_stage: int
    dtype: str
    lora: Mapping[str, Any] | None
    mapping: Mapping[str, Any]
    files: Mapping[str, str]


def file_digest(path: Path) -> str:
    """SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_digest(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def write_record(folder: Path, state: LearnerState) -> None:
    """Write the record into a checkpoint that is not yet renamed; TypeError for a mapping that JSON cannot hold."""
    tree = {"version": RECORD_VERSION, **asdict(state)}
    (folder / RECORD).write_text(json.dumps(tree | {"digest": _own_digest(tree)}, indent=1))


def has_state(out: Path) -> bool:
    """Whether the checkpoint holds what a resume needs: a plain Hugging Face folder does not."""
    return (out / RECORD).is_file()


def read_record(out: Path) -> LearnerState:
    """The record alone, its own digest checked; ModelError where it is absent, damaged or of a newer version."""
    path = out / RECORD
    if not path.is_file():
        raise ModelError(
            f"{out} has no {RECORD}",
            "a checkpoint that was saved with its state",
            "resume from another checkpoint, or load this one's weights with a fresh optimizer",
        )
    try:
        tree = json.loads(path.read_text())
        version, stored = tree["version"], tree.pop("digest")
        intact = stored == _own_digest(tree)
    except (ValueError, KeyError, TypeError, AttributeError):  # no JSON, or another document
        raise _damaged(path) from None
    if not intact:
        raise _damaged(path)
    if version > RECORD_VERSION:
        raise ModelError(
            f"{path} has version {version}", f"at most {RECORD_VERSION}", "update Residency: a newer one wrote it"
        )
    del tree["version"]
    return LearnerState(**tree)


def read_state(out: Path) -> LearnerState:
    """The record, with every file's digest checked; ModelError names the file that is not as it was written."""
    state = read_record(out)
    check_files(out, state.files, state.files)
    return state


def check_files(folder: Path, digests: Mapping[str, str], names: Iterable[str]) -> None:
    """ModelError for the first of these files that is absent or whose digest is another."""
    for name in names:
        path = folder / name
        if not path.is_file() or file_digest(path) != digests[name]:
            raise _damaged(path)


def _damaged(path: Path) -> ModelError:
    seen = f"{path} is {'not what was saved (its SHA-256 differs)' if path.is_file() else 'absent'}"
    return ModelError(seen, "the checkpoint's files as they were written", "resume from an earlier checkpoint")
