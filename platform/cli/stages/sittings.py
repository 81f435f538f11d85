"""Sittings: which checkpoint is examined on which board, prompted and decoded how, on which images."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from residency.platform.cli.boards import Board
from residency.platform.recipe import Recipe
from residency.platform.records import PromptMode, Split
from residency.platform.run_folder import RunFolder, write_whole

ORDER = ("base", "sft", "rl", "sft_continued", "rl_permuted")
IMAGES = ("true", "blank", "shuffled", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sitting:
    """One sitting. ``image`` is true, blank, shuffled or none; ``temperature`` 0 is greedy."""

    board: str
    checkpoint: str
    prompt_mode: PromptMode = PromptMode.THINK
    temperature: float = 0.0
    samples: int = 1
    image: str = "true"
    split: Split = Split.HELD_OUT

    @property
    def decoding(self) -> str:
        if self.temperature == 0:
            return "greedy"
        return "sampled" if self.temperature == 1 else f"sampled at T={self.temperature:g}"

    @property
    def name(self) -> str:
        """Names its folder, its keys in the journal and its seeds."""
        parts = [self.checkpoint, self.prompt_mode.value, self.decoding.replace(" ", "-"), self.image]
        return "-".join(parts if self.split is Split.HELD_OUT else [*parts, self.split.value])

    def like(self, **changes: Any) -> tuple[Any, ...]:
        """What makes it this sitting and no other, with some of it changed: to find its counterpart."""
        fields = asdict(self) | changes
        return tuple(fields[name] for name in ("board", "checkpoint", "prompt_mode", "temperature", "image", "split"))


def folder_of(run: RunFolder, sitting: Sitting) -> Path:
    """``evaluation/<board>/<sitting>/``: predictions, outcomes by profile, and what the sitting was."""
    return run.evaluation / sitting.board / sitting.name


def plan_sittings(recipe: Recipe, boards: Sequence[Board], checkpoint: str, best: float | None = None) -> list[Sitting]:
    """What a checkpoint sits: both prompt modes greedily, and every image condition where there are images.

    On the run's own board also sampled; a control sits only what its comparison needs, and base, which often only
    babbles, is sampled once. ``best`` is the temperature at which SFT did best on the tune split.
    """
    plan = []
    control = checkpoint in recipe.rl.controls
    for board in boards:
        about: dict[str, Any] = {"board": board.name, "checkpoint": checkpoint}
        if control and not board.own:
            continue
        plan.append(Sitting(**about))
        if board.own and recipe.evaluation.samples:
            samples = 1 if checkpoint == "base" else recipe.evaluation.samples
            plan.append(Sitting(**about, temperature=1.0, samples=samples))
            if checkpoint == "sft" and best is not None:
                plan.append(Sitting(**about, temperature=best, samples=samples))
        if control:
            continue
        plan.append(Sitting(**about, prompt_mode=PromptMode.DIRECT))
        if board.items_with_media:
            conditions = recipe.evaluation.images if checkpoint != "base" or not trains(recipe) else ("blank",)
            plan += [Sitting(**about, image=image) for image in recipe.evaluation.images if image in conditions]
    return plan


def trains(recipe: Recipe) -> bool:
    """Whether the run makes checkpoints of its own that sit the boards."""
    return set(recipe.evaluation.checkpoints) != {"base"}


def note_sitting(run: RunFolder, sitting: Sitting, dataset_hash: str) -> None:
    """``sitting.json``, written last: a folder that has it is whole."""
    text = json.dumps({"sitting": asdict(sitting), "dataset_hash": dataset_hash}, indent=1)
    write_whole(folder_of(run, sitting) / "sitting.json", lambda aside: aside.write_text(text))


def is_sat(run: RunFolder, sitting: Sitting) -> bool:
    return (folder_of(run, sitting) / "sitting.json").is_file()


def read_sittings(run: RunFolder) -> dict[Sitting, str]:
    """Every whole sitting of a run with the hash of its dataset, in the order of the tables."""
    found: dict[Sitting, str] = {}
    for path in sorted(run.evaluation.glob("*/*/sitting.json")):
        noted = json.loads(path.read_text())
        fields = dict(noted["sitting"])
        fields |= {"prompt_mode": PromptMode(fields["prompt_mode"]), "split": Split(fields["split"])}
        found[Sitting(**fields)] = noted["dataset_hash"]
    boards = list(dict.fromkeys(sitting.board for sitting in found))

    def place(sitting: Sitting) -> tuple[float, ...]:
        direct = sitting.prompt_mode is PromptMode.DIRECT
        checkpoint, image = ORDER.index(sitting.checkpoint), IMAGES.index(sitting.image)
        return boards.index(sitting.board), checkpoint, direct, image, sitting.temperature

    return {sitting: found[sitting] for sitting in sorted(found, key=place)}
