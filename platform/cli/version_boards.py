"""What a version answers on a recipe's boards: read where it is on disk, asked where it is not.

Answers are kept in the registry by the weights' digest and by what was asked, ``answers/<digest>/<boards>/``, each a
run folder of its own (like `recipes/boards.yaml`: a model as it is). So what is on call is asked once for each exam.
"""

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from residency.platform.cli.boards import Board, read_boards
from residency.platform.cli.conductor import conduct
from residency.platform.cli.screen import Screen
from residency.platform.cli.stages.scoring import score_sitting
from residency.platform.cli.stages.sittings import Sitting, folder_of, is_sat, note_sitting, read_sittings
from residency.platform.errors import BadInputError
from residency.platform.profiles import Profile
from residency.platform.recipe import DataConfig, Recipe
from residency.platform.records import PromptMode, short_hash
from residency.platform.registry.model_copy import WEIGHTS
from residency.platform.run_folder import RunFolder
from residency.training.evaluation.compare_runs import SittingKey
from residency.training.evaluation.scoring.profiles import find_profile

MODES = (PromptMode.THINK, PromptMode.DIRECT)


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The boards of a run: its recipe, and the datasets on which its checkpoints were examined."""

    run: RunFolder
    recipe: Recipe
    boards: tuple[Board, ...]

    @classmethod
    def of(cls, run: RunFolder) -> "Examination":
        """Raises BadInputError for a run of several seeds: one of them is to be given."""
        recipe = run.recipe()
        if len(recipe.seeds) > 1:
            raise BadInputError(
                f"{run.path} has {len(recipe.seeds)} seeds", "a run with one checkpoint of a name",
                f"give one of its seeds: {run.path / f'seed-{recipe.seeds[0]}'}",
            )  # fmt: skip
        return cls(run=run, recipe=recipe, boards=read_boards(recipe, run))

    @property
    def sittings(self) -> list[tuple[Board, Sitting]]:
        """Every board, in both prompt modes, greedily, on true images; by a model that its own folder calls base."""
        return [
            (board, Sitting(board=board.name, checkpoint="base", prompt_mode=mode))
            for board in self.boards
            for mode in MODES
        ]

    @property
    def key(self) -> str:
        """Two examinations of one key ask the same questions in the same words under the same limits."""
        asked = [[board.name, board.dataset.card.content_hash] for board in self.boards]
        student = self.recipe.student
        limits = [student.max_prompt_tokens, student.max_new_tokens, self.recipe.evaluation.profile]
        return short_hash(json.dumps([asked, limits, self.recipe.seeds]))


def answers_of(
    exam: Examination,
    model: Path,
    digest: str,
    kept: Path,
    *,
    trained: str | None,
    profile: Profile,
    screen: Screen,
) -> Mapping[SittingKey, pl.DataFrame]:
    """Outcomes of every sitting of the examination by the model in ``model``, whose weights have this digest.

    ``trained`` is the checkpoint's name where the model comes from the exam's own run: what that answered there counts,
    unless the weights are newer than the answers. What is not on disk under ``kept`` is asked now, by real engines.
    """
    into = RunFolder(kept / digest[:16] / exam.key)
    if trained is not None:
        take_over(exam, trained, into)
    if not all(is_sat(into, sitting) for _, sitting in exam.sittings):
        recipe = lay_out(exam, model, into)
        asyncio.run(conduct(recipe, profile, into, "evaluate", screen))
    profile_name = exam.recipe.evaluation.profile
    label = find_profile(profile_name).label
    return {
        SittingKey(
            checkpoint="weights", dataset=board.name, dataset_hash=board.dataset.card.content_hash,
            prompt_mode=sitting.prompt_mode.value, decoding=sitting.decoding, image=sitting.image, profile=label,
        ): score_sitting(into, sitting, board.items, profile_name)
        for board, sitting in exam.sittings
    }  # fmt: skip


def take_over(exam: Examination, checkpoint: str, into: RunFolder) -> None:
    """Copies the predictions that the checkpoint made in its own run, where they are of these very weights."""
    weights = exam.run.checkpoints / checkpoint
    written = max(path.stat().st_mtime for path in weights.glob(f"*{WEIGHTS}"))
    hashes = read_sittings(exam.run)
    for board, sitting in exam.sittings:
        there = Sitting(board=board.name, checkpoint=checkpoint, prompt_mode=sitting.prompt_mode)
        source = folder_of(exam.run, there)
        fresh = hashes.get(there) == board.dataset.card.content_hash
        if is_sat(into, sitting) or not fresh or (source / "sitting.json").stat().st_mtime < written:
            continue
        target = folder_of(into, sitting)
        target.mkdir(parents=True, exist_ok=True)
        for name in ("predictions.parquet", "predictions.jsonl"):
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
        note_sitting(into, sitting, board.dataset.card.content_hash)


def lay_out(exam: Examination, model: Path, into: RunFolder) -> Recipe:
    """The recipe that examines the model as it is. It names links in ``into``, so that it stays the same recipe
    wherever model and datasets lie today."""
    base = into.checkpoints / "base"
    link(base, model)
    links: Sequence[Path] = [into.path / "boards" / str(number) for number in range(len(exam.boards))]
    folders = [exam.run.data, *map(Path, exam.recipe.evaluation.datasets)]
    for place, folder in zip(links, folders, strict=True):
        link(place, folder)
    link(into.data, exam.run.data)
    student = exam.recipe.student.model_copy(update={"model": str(base), "pretraining_steps": 0})
    evaluation = exam.recipe.evaluation.model_copy(
        update={
            "datasets": tuple(map(str, links[1:])), "checkpoints": ("base",), "images": (), "samples": 0,
            "temperatures": (),
        }
    )  # fmt: skip
    return Recipe(
        name="boards",
        seeds=exam.recipe.seeds,
        student=student,
        data=DataConfig(format="dataset", source=str(links[0])),
        evaluation=evaluation,
    )


def link(place: Path, target: Path) -> None:
    """``place`` points to ``target``, whatever it pointed to before."""
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.link")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target.resolve(), target_is_directory=True)
    aside.replace(place)
