"""The SFT stage with every real part: neither a rank killed in mid-step nor a damaged checkpoint changes a bit."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from residency.platform.cli.crew import Crew
from residency.platform.cli.screen import Screen
from residency.platform.cli.stages.prepare_stage import data_stage, student_stage
from residency.platform.cli.stages.sft_stage import pretrain_stage, sft_stage
from residency.platform.cli.stages.synthesize_stage import synthesize_stage
from residency.platform.journal.journal import Journal
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.report.run_files import read_lines
from residency.platform.run_folder import RunFolder

WHOLE_SECONDS = 840
RECIPE = Recipe.model_validate(
    {
        "name": "resume",
        "student": {"max_prompt_tokens": 192, "max_new_tokens": 8, "pretraining_steps": 2},
        "data": {"format": "starter", "train_items": 48, "tune_items": 8, "held_out_items": 8, "image_size": 84},
        "synthesis": {"teachers": [{"kind": "annotations"}]},
        "mixture": {"targets": {"direct": 0.5, "cot": 0.5}, "examples": 40},
        "sft": {"batch_size": 8, "max_steps": 10, "evaluate_every": 5, "patience": 9, "length_grouped": True},
        "checkpoints": {"every": 3, "keep_last": 2},
    }
)
PROFILE = Profile.model_validate(
    {
        "name": "resume",
        "generators": {"cpus": 0.5, "threads": 1, "kv_cache_gib": 0.1, "max_sequences": 32},
        "learners": {"actors": 2, "cpus": 0.25, "zero_stage": 2},
        "deadline_seconds": 240,
    }
)


def events(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [row for row in read_lines(run.path / "events.jsonl") if row["kind"] == kind]


def sft_metrics(run: RunFolder) -> list[tuple[int, str]]:
    rows = read_lines(run.path / "metrics.jsonl")
    return [(row["step"], row["name"]) for row in rows if row["role"] == "sft"]


def weights(run: RunFolder, folder: str) -> dict[str, bytes]:
    """Every weight file of the SFT checkpoint and of the step checkpoints that are kept."""
    root = run.checkpoints / folder
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("**/model.safetensors")}


def set_aside(run: RunFolder, name: str) -> None:
    for folder in ("sft", "sft-steps"):
        (run.checkpoints / folder).rename(run.checkpoints / f"{name}-{folder}")


@pytest.mark.timeout(WHOLE_SECONDS + 60)
@pytest.mark.usefixtures("ray_cluster")
def test_a_lost_rank_and_a_damaged_checkpoint_change_no_bit(tmp_path: Path, dies_in: Any) -> None:
    run = RunFolder(tmp_path / "run")
    run.open(RECIPE, PROFILE)

    async def scenario() -> None:
        with Journal.open(run.path / "journal") as journal:
            async with Crew(RECIPE, PROFILE, run, 0, Screen(quiet=True), journal) as crew:
                for stage in (data_stage, student_stage, pretrain_stage, synthesize_stage):
                    await stage(crew)

                await sft_stage(crew)
                first_metrics, asked = sft_metrics(run), len(journal.state.keys)
                assert [step for step, name in first_metrics if name == "loss"] == list(range(10))
                assert [step for step, name in first_metrics if name == "tune_accuracy"] == [5, 10]
                summary = run.summary()["sft"]
                best = summary["best_step"]
                kept = {9, 10, best}
                assert set(weights(run, "sft-steps")) == {f"step-{step:06d}/model.safetensors" for step in kept}
                assert weights(run, "sft") == {
                    "model.safetensors": weights(run, "sft-steps")[f"step-{best:06d}/model.safetensors"]
                }
                set_aside(run, "unbroken")

                pid = await crew.learners._actors[1].__ray_call__.remote(dies_in, 7)
                await sft_stage(crew)
                (restarted,) = events(run, "learner_restarted")
                assert restarted["step"] == 6, "the newest checkpoint before the death"
                assert "learner rank" in restarted["cause"]
                assert restarted["incarnation"] == crew.incarnation
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)
                for folder in ("sft", "sft-steps"):
                    assert weights(run, folder) == weights(run, f"unbroken-{folder}"), "bit for bit"
                # the same losses, so nothing is written twice; the same weights, so the tune split is not asked again
                assert sft_metrics(run) == first_metrics
                assert events(run, "repeated_step_differs") == []
                assert len(journal.state.keys) == asked
                assert run.summary()["sft"] == summary

                state = next(path for path in (run.checkpoints / "sft-steps/step-000010/state").glob("**/*.pt"))
                whole = state.read_bytes()
                state.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
                await sft_stage(crew)
                (damaged,) = events(run, "checkpoint_damaged")
                assert damaged["checkpoint"] == "sft-steps/step-000010"
                assert state.name in damaged["cause"]
                assert [event["step"] for event in events(run, "sft_resumed")] == [9]
                for folder in ("sft", "sft-steps"):
                    assert weights(run, folder) == weights(run, f"unbroken-{folder}"), "bit for bit"
                assert sft_metrics(run) == first_metrics

    asyncio.run(asyncio.wait_for(scenario(), WHOLE_SECONDS))
