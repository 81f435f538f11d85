"""The job that chaos runs break: a few steps of synchronous RL on questions of text, small enough for a hundred runs.

Three kinds: ``light`` (simulated engines, a stand-in for DeepSpeed), ``deepspeed`` (simulated engines) and ``vllm``
(every role real). ``prepare`` makes what stands before RL in a run: data, checkpoints and the order of the prompts.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from light_learner import NUM_WEIGHTS, write_weights

from residency.actors.simulated_answers import SimulatedEngineConfig, load_simulated_config
from residency.platform.dataset_folder import DatasetCard, write_dataset
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.run_folder import RunFolder

Kind = Literal["light", "deepspeed", "vllm"]
STEPS, PROMPTS, GROUP_SIZE = 8, 4, 4
NUM_ITEMS = 20
TOKENS = 96
BEFORE = ("data", "student", "pretrain", "warm_up", "synthesize", "sft", "difficulty")  # stages that are ready made
WORK = {"tier": "work"}  # label of the node that may be lost
SEED = 0


def recipe_of(kind: Kind) -> Recipe:
    """Simulated engines make up their logprobs: no trainer could agree with them."""
    return Recipe.model_validate(
        {
            "name": "chaos",
            "seeds": [SEED],
            "student": {"max_prompt_tokens": 128, "max_new_tokens": TOKENS if kind != "vllm" else 24},
            "data": {"format": "dataset", "source": "data"},
            "rl": {
                "steps": STEPS, "prompts_per_step": PROMPTS, "group_size": GROUP_SIZE, "algorithm": "grpo",
                "optimizer": {"learning_rate": 1e-3, "schedule": "constant"},
                **({} if kind == "vllm" else {"max_mismatch": 1e9}),
                # an untrained student is never right: what it can learn here is to be brief
                **({"reward": {
                    "weights": {"format": 0.1, "accuracy": 0.3, "length": 0.6},
                    "length": {"max_characters": 60, "soft_characters": 60},
                }} if kind == "vllm" else {}),
            },
            "checkpoints": {"every": 3, "keep_last": 2},
        }
    )  # fmt: skip


def profile_of(kind: Kind, deadline_seconds: float) -> Profile:
    """On the cluster that is there; what may be elsewhere goes to the node that may be lost."""
    there: dict[str, Any] = {"labels": WORK, "fallback_labels": [{}]}
    num_generators = 1 if kind == "vllm" else 2
    return Profile.model_validate(
        {
            "name": "chaos",
            "object_store_mib": 75,
            "generators": {
                "actors": num_generators, "cpus": 0.5, "threads": 1, "kv_cache_gib": 0.1, "max_sequences": 32, **there
            },
            "verifiers": {"cpus": 0.1, **there},
            "synthesizers": {"cpus": 0.1, **there},
            "learners": {"actors": 2, "cpus": 0.25, "micro_batch_tokens": 2048, **there},
            "publisher": {"cpus": 0.05},
            "deadline_seconds": deadline_seconds,
        }
    )  # fmt: skip


def engine_config(kind: Kind) -> SimulatedEngineConfig:
    """The shipped shape at a hundred times its pace; token ids that DeepSpeed's tiny student knows and may read."""
    quick = {
        "median_tokens": 30, "p99_tokens": 90, "step_seconds": 0.004, "sequence_seconds": 0.0001, "update_seconds": 0.05
    }  # fmt: skip
    return load_simulated_config().model_copy(
        update=quick | ({} if kind == "light" else {"first_token": 16, "vocabulary": 48})
    )


def items() -> list[Item]:
    splits = [Split.TRAIN] * NUM_ITEMS + [Split.TUNE] * 2 + [Split.HELD_OUT] * 2
    return [
        Item(
            id=f"item-{number:02d}", content_key=f"c-{number}", source="chaos", split=split, licence="CC0",
            cluster=f"k-{number}", question=f"Sample {number}: how many cells are there?", answer=str(number + 1),
            answer_kind=AnswerKind.NUMBER, family=Family.TEXTUAL_REASONING,
        )
        for number, split in enumerate(splits)
    ]  # fmt: skip


def prompts() -> list[str]:
    """Item ids in the order in which RL draws them."""
    return [item.id for item in items() if item.split is Split.TRAIN]


def due_groups() -> list[str]:
    """The journal's keys of every group that the job is to ask, by step."""
    order = prompts()
    return [
        f"rl-{step:04d}/{order[(step * PROMPTS + place) % NUM_ITEMS]}"
        for step in range(STEPS)
        for place in range(PROMPTS)
    ]


def make_student(folder: Path) -> None:
    """A tiny Qwen2.5-VL whose tokenizer knows the job's words; written once for all runs of a suite."""
    from residency.platform.prompts import render_completion, render_prompt
    from residency.platform.records import PromptMode
    from residency.training.student import build_student

    think = PromptMode.THINK
    texts = [render_prompt(item, think) for item in items()]
    texts += [render_completion(item.answer, think, "the cells are round") for item in items()]
    build_student(folder, texts, seed=SEED)


def prepare(run: Path, kind: Kind, student: Path) -> None:
    """A run whose RL is next."""
    folder = RunFolder(run)
    card = DatasetCard(name="chaos", source="made here", licence="CC0", splits="by number")
    write_dataset(folder.data, items(), (), card)
    for name in ("base", "sft"):
        if kind == "light":
            start = np.random.default_rng(SEED).standard_normal(NUM_WEIGHTS, dtype=np.float32)
            write_weights(folder.checkpoints / name, start)
        else:
            shutil.copytree(student, folder.checkpoints / name)
    (run / "lineage").mkdir()
    (run / "lineage" / "prompts.json").write_text(json.dumps(prompts()))
    for stage in BEFORE:
        folder.finish_stage(stage, 0.0)
