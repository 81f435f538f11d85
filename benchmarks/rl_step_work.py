"""The work of ``rl_step.py``, as files that every side reads: student, pictures, prompts, and a run's folder.

All answers have the same length on every side: the student's end-of-turn token is one that is banned (a media token),
so that no sequence ends before the longest answer. Each step has prompts and pictures of its own, so that no cache of
any side knows them from the step before.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from residency.platform.profiles import Profile
    from residency.platform.recipe import Recipe
    from residency.platform.records import Item

SEED = 0
QUESTION = "which side of the picture is the lesion on? look at its edge, its shape and its colour, number {}"
MAX_CHARACTERS = 600  # the reward falls with length, so that every group teaches


@dataclass(frozen=True)
class Work:
    """Where the files are and how much there is; ``steps`` are those of the longest side, its warm-up included."""

    folder: Path
    prompts: int
    samples: int
    tokens: int
    steps: int

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def student(self) -> Path:
        return self.run / "checkpoints" / "sft"

    @property
    def rollouts(self) -> int:
        """Of a step."""
        return self.prompts * self.samples


def recipe_of(work: Work) -> "Recipe":
    from residency.platform.recipe import Recipe

    return Recipe.model_validate(
        {
            "name": "rl-step",
            "seeds": [SEED],
            "data": {"format": "starter"},
            "student": {"max_prompt_tokens": 160, "max_new_tokens": work.tokens},
            "checkpoints": {"every": 1_000_000},
            "rl": {
                "algorithm": "dapo", "steps": work.steps, "prompts_per_step": work.prompts, "group_size": work.samples,
                "optimizer": {"learning_rate": 1e-6, "warmup_ratio": 0.0, "schedule": "constant"},
                "reward": {
                    "weights": {"format": 0.1, "accuracy": 0.4, "length": 0.5},
                    "length": {"max_characters": MAX_CHARACTERS, "soft_characters": MAX_CHARACTERS},
                },
            },
        }
    )  # fmt: skip


def profile_of() -> "Profile":
    from residency.platform.profiles import load_profile
    from residency.platform.shipped import find

    return load_profile(find("profiles", "laptop"))


def build_work(work: Work) -> None:
    """Writes everything; needs neither Ray nor vLLM."""
    from PIL import Image

    from residency.platform.dataset_folder import DatasetCard, write_dataset
    from residency.platform.media_store import encode_png, media_hash
    from residency.platform.prompts import render_prompt
    from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split
    from residency.platform.run_folder import RunFolder
    from residency.training.student import build_student

    run = RunFolder(work.run)
    run.open(recipe_of(work), profile_of())
    number = work.prompts * work.steps
    pixels = np.random.default_rng(0).integers(0, 255, (number, 84, 84, 3), dtype=np.uint8)
    pngs = [encode_png(Image.fromarray(picture)) for picture in pixels]
    items = [
        Item(
            id=f"item{row:05d}", content_key=f"key{row}", source="rl-step", split=split, licence="CC0",
            cluster=str(row), media=(media_hash(pngs[row % number]),), question=QUESTION.format(row),
            options=("left", "right"), answer="left", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
        )
        for row, split in enumerate([Split.TRAIN] * number + [Split.HELD_OUT])
    ]  # fmt: skip
    write_dataset(run.data, items, pngs, DatasetCard(name="rl-step", source="-", licence="CC0", splits="-"))
    texts = [
        render_prompt(items[0], PromptMode.THINK),
        "<think>the lesion is on the left.</think><answer>left</answer>",
    ]
    build_student(work.student, texts, seed=0)
    make_endless(work.student)
    shutil.copytree(work.student, run.checkpoints / "base")


def make_endless(student: Path) -> None:
    """The end of a turn becomes a token that can never be sampled."""
    from transformers import AutoTokenizer

    from residency.training.student_tokenizer import VIDEO_PAD

    tokenizer: Any = AutoTokenizer.from_pretrained(student)
    never = int(tokenizer.convert_tokens_to_ids(VIDEO_PAD))

    def change(name: str, edit: Callable[[dict[str, Any]], None]) -> None:
        tree = json.loads((student / name).read_text())
        edit(tree)
        (student / name).write_text(json.dumps(tree, indent=1))

    change("tokenizer_config.json", lambda tree: tree.update(eos_token=VIDEO_PAD))
    change("generation_config.json", lambda tree: tree.update(eos_token_id=[never]))
    change("config.json", lambda tree: tree["text_config"].update(eos_token_id=never))


def items_of(work: Work) -> "list[Item]":
    """Train items, in the order in which steps take them."""
    from residency.platform.dataset_folder import read_dataset
    from residency.platform.records import Split

    return sorted(read_dataset(work.run / "data").split(Split.TRAIN), key=lambda item: item.id)


def purpose_of(step: int) -> str:
    """As a run names the calls of a synchronous step."""
    return f"rl-{step:04d}"


def requests_of(work: Work, step: int) -> "pa.Table":
    """The very requests that a run makes for the step, seeds included."""
    from residency.platform.cli.stages.sampling import build_requests, request_seed
    from residency.platform.records import PromptMode

    items = items_of(work)[step * work.prompts : (step + 1) * work.prompts]
    return build_requests(
        items, PromptMode.THINK, work.samples, lambda item: request_seed(SEED, purpose_of(step), item.id)
    )


def media_of(work: Work) -> "pa.Table":
    from residency.platform.dataset_folder import read_dataset
    from residency.platform.media_store import media_table

    dataset = read_dataset(work.run / "data")
    return media_table(
        [dataset.media.read_png(key) for key in dict.fromkeys(k for i in dataset.items for k in i.media)]
    )
