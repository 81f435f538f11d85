"""A rank's part of a state checkpoint: DeepSpeed's files and its random state, also for another number of ranks."""

import argparse
import contextlib
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.checkpoint import ds_to_universal

from residency.training.learner_state import (
    STATE_FOLDER,
    LearnerState,
    check_files,
    file_digest,
    read_record,
)
from residency.training.rank_address import RankAddress

TAG = "deepspeed"  # of DeepSpeed's files below the state folder
UNIVERSAL = "universal"  # beside the state: the same for any number of ranks
UNIVERSAL_DIGESTS = "digests.json"


def save_engine(engine: Any, folder: Path, address: RankAddress) -> None:
    """Write DeepSpeed's files and this rank's random state below ``folder/state`` (collective)."""
    # What is frozen is in the Hugging Face folder already; with adapters their base is saved beside.
    engine.save_checkpoint(str(folder / STATE_FOLDER), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
    _random_file(folder, address.rank).write_text(json.dumps(_random_state()))
    if address.rank == 0:  # DeepSpeed leaves programs beside its files; a checkpoint holds none
        for program in (folder / STATE_FOLDER).glob("*.py"):
            program.unlink()


def load_engine(engine: Any, out: Path, universal: bool) -> None:
    """Optimizer and weights of a checkpoint whose digests were checked (collective)."""
    where, tag = (out, UNIVERSAL) if universal else (out / STATE_FOLDER, TAG)
    engine.load_checkpoint(str(where), tag=tag, load_module_strict=False)  # what is frozen is not among them
    if universal:  # ZeRO-3 then gives all groups one tensor as their step: each would count it up once more
        for held in engine.optimizer.optimizer.state.values():
            if torch.is_tensor(held.get("step")):
                held["step"] = held["step"].clone()


def digest_files(folder: Path, address: RankAddress) -> dict[str, str]:
    """Digest of every file of a checkpoint in the making; each rank reads its share of them (collective)."""
    torch.distributed.barrier()
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    shares: list[Any] = [None] * address.num_ranks
    own = {name: file_digest(folder / name) for name in names[address.rank :: address.num_ranks]}
    torch.distributed.all_gather_object(shares, own)
    merged = {name: digest for share in shares for name, digest in share.items()}
    return {name: merged[name] for name in names}


def checked_record(out: Path, address: RankAddress) -> LearnerState:
    """The checkpoint's record, after all ranks together checked every digest (collective).

    Raises ModelError naming a damaged file on the rank that read it; the others then stand at the barrier, with nothing
    unpickled, until the group is closed.
    """
    state = read_record(out)
    check_files(out, state.files, sorted(state.files)[address.rank :: address.num_ranks])
    torch.distributed.barrier()
    return state


def make_universal(out: Path, state: LearnerState, address: RankAddress) -> None:
    """The universal form of the checkpoint's state beside it, made once, by rank 0 (collective)."""
    if address.rank == 0 and not _has_universal(out):
        aside = out / f".{UNIVERSAL}.partial"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        arguments = argparse.Namespace(
            input_folder=str(out / STATE_FOLDER / TAG),
            output_folder=str(aside),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=state.zero_stage < 3,
        )
        with contextlib.redirect_stdout(sys.stderr):
            ds_to_universal.main(arguments)
        files = {str(path.relative_to(aside)): file_digest(path) for path in aside.rglob("*") if path.is_file()}
        (aside / UNIVERSAL_DIGESTS).write_text(json.dumps({"made_from": state.files, "files": files}))
        shutil.rmtree(out / UNIVERSAL, ignore_errors=True)
        aside.replace(out / UNIVERSAL)
    torch.distributed.barrier()
    listed = json.loads((out / UNIVERSAL / UNIVERSAL_DIGESTS).read_text())["files"]
    check_files(out / UNIVERSAL, listed, sorted(listed)[address.rank :: address.num_ranks])
    torch.distributed.barrier()


def _has_universal(out: Path) -> bool:
    """Whether it was made, of the state that is there."""
    path = out / UNIVERSAL / UNIVERSAL_DIGESTS
    return path.is_file() and json.loads(path.read_text())["made_from"] == dict(read_record(out).files)


def restore_random(out: Path, address: RankAddress, seed: int) -> None:
    """This rank's random state as saved; a rank that the saved group did not have is seeded by its number."""
    path = _random_file(out, address.rank)
    if not path.is_file():
        random.seed(seed + address.rank)
        np.random.seed(seed + address.rank)
        torch.manual_seed(seed + address.rank)
        return
    state = json.loads(path.read_text())
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, key, *rest = state["numpy"]
    np.random.set_state((kind, np.array(key, np.uint32), *rest))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if state["accelerator"] is not None:
        accelerator: Any = get_accelerator()
        accelerator.set_rng_state(torch.tensor(state["accelerator"], dtype=torch.uint8))


def _random_file(folder: Path, rank: int) -> Path:
    return folder / STATE_FOLDER / f"random-{rank:05d}.json"


def _random_state() -> dict[str, Any]:
    """Of Python, NumPy and torch, as JSON: no pickle is needed for it."""
    accelerator: Any = get_accelerator()
    kind, key, *rest = np.random.get_state(legacy=True)
    on_cpu = accelerator.device_name() == "cpu"
    return {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(key).tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
        "accelerator": None if on_cpu else accelerator.get_rng_state().cpu().tolist(),
    }
