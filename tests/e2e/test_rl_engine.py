"""The RL stage with every real part: asynchronous, a learner rank killed in mid-step, and a planted mismatch."""

import asyncio
import shutil
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from residency.platform.cli.crew import Crew
from residency.platform.cli.screen import Screen
from residency.platform.cli.stages.prepare_stage import data_stage, student_stage
from residency.platform.cli.stages.rl_stage import train_with_rewards
from residency.platform.journal.journal import Journal
from residency.platform.journal.reader import read_state
from residency.platform.journal.state import Stage
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.records import PolicyVersion, Split
from residency.platform.report.run_files import read_lines
from residency.platform.run_folder import RunFolder
from residency.training.losses import LossConfig
from residency.training.mismatch.meter import MismatchError

STEPS, PROMPTS, STALENESS = 6, 4, 1
DIES_IN, SAVED = 5, 4  # the step that the rank does not survive, and the last checkpoint before it
RECIPE = Recipe.model_validate(
    {
        "name": "engine",
        "student": {"max_prompt_tokens": 192, "max_new_tokens": 12, "pretraining_steps": 0},
        "data": {"format": "starter", "train_items": 48, "tune_items": 8, "held_out_items": 8, "image_size": 84},
        "rl": {
            "steps": STEPS, "prompts_per_step": PROMPTS, "group_size": 4, "staleness": STALENESS, "refill": True,
            "kl": {"place": "loss", "estimator": "k3", "coefficient": 0.01}, "lora": {"rank": 4},
            "optimizer": {"learning_rate": 1e-3, "schedule": "cosine"},
            # an untrained student is never right: what it can learn here is to be brief
            "reward": {
                "weights": {"format": 0.1, "accuracy": 0.3, "length": 0.6},
                "length": {"max_characters": 80, "soft_characters": 80},
            },
        },
        "checkpoints": {"every": 2, "keep_last": 1},
    }
)  # fmt: skip
PROFILE = Profile.model_validate(
    {
        "name": "engine",
        "generators": {"cpus": 0.5, "threads": 1, "kv_cache_gib": 0.1, "max_sequences": 32},
        "learners": {"actors": 2, "cpus": 0.25, "zero_stage": 2},
        "deadline_seconds": 240,
    }
)


def events(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [row for row in read_lines(run.path / "events.jsonl") if row["kind"] == kind]


def metrics(run: RunFolder) -> dict[tuple[int, str], float]:
    rows = read_lines(run.path / "metrics.jsonl")
    return {(row["step"], row["name"]): row["value"] for row in rows if row["role"] == "rl"}


async def store_in_use() -> int:
    """Bytes in all object stores, once they no longer shrink."""
    import ray

    def in_use() -> int:
        whole, free = ray.cluster_resources(), ray.available_resources()
        return int(whole["object_store_memory"] - free["object_store_memory"])

    least = in_use()
    for _ in range(6):
        await asyncio.sleep(0.5)
        least = min(least, in_use())
    return least


class DyingOnce(Crew):
    """A crew whose second learner rank dies in the step that is named; its successor lives."""

    dies_in: Any = None

    async def load_learners(self, *args: Any, **options: Any) -> None:
        await super().load_learners(*args, **options)
        arm, self.dies_in = self.dies_in, None
        if arm is not None:
            await self.learners._actors[1].__ray_call__.remote(arm, DIES_IN)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, ray_cluster: Any, dies_in: Any
) -> tuple[RunFolder, dict[str, Any], str]:
    """An asynchronous run that lost a learner rank, what it came to, and how a planted mismatch ended another."""
    run = RunFolder(tmp_path_factory.mktemp("engine") / "run")
    run.open(RECIPE, PROFILE)

    async def scenario() -> tuple[dict[str, Any], str]:
        with Journal.open(run.path / "journal") as journal:
            async with DyingOnce(RECIPE, PROFILE, run, 0, Screen(quiet=True), journal) as crew:
                crew.dies_in = dies_in
                for stage in (data_stage, student_stage):
                    await stage(crew)
                shutil.copytree(crew.checkpoint("base"), crew.checkpoint("sft"))
                prompts = [item.id for item in crew.dataset.split(Split.TRAIN)]
                await crew.put_on_generators("sft")
                run.event("store_in_use", bytes=await store_in_use())
                outcome = await train_with_rewards(crew, "rl", "rl", prompts, STEPS, None)
                run.event("store_in_use", bytes=await store_in_use())
                with pytest.MonkeyPatch.context() as planted:
                    colder = LossConfig(kind="dapo", temperature=0.7)
                    planted.setattr("residency.platform.cli.stages.rl_trainer.loss_config", lambda *_: colder)
                    with pytest.raises(MismatchError) as stopped:
                        await train_with_rewards(crew, "rl_permuted", "rl_permuted-1", prompts, 1, None)
                return outcome, str(stopped.value)

    outcome, stopped = asyncio.run(scenario())
    return run, outcome, stopped


@pytest.mark.timeout(900)
def test_each_group_is_in_exactly_one_step_and_none_is_older_than_the_bound(
    finished: tuple[RunFolder, dict[str, Any], str],
) -> None:
    run, outcome, _ = finished
    state = read_state(run.path / "journal")
    steps = list(state.learner("rl").steps())
    assert [step for (_, step), _ in steps] == list(range(1, STEPS + 1))
    trained = Counter(key for _, keys in steps for key in keys)
    assert set(trained.values()) == {1}
    assert all(len(keys) == PROMPTS for _, keys in steps), "refilled"
    rl = {key: now for key, now in state.keys.items() if key.startswith("rl-")}
    assert {key for key, now in rl.items() if now.stage is Stage.TRAINED} == set(trained)
    assert {now.stage for now in rl.values()} <= {Stage.TRAINED, Stage.DROPPED}, "nothing is left under way"
    assert all(now.asked == 1 for now in rl.values()), "the learner's death costs no rollout"
    oldest = {key: PolicyVersion.unpack(now.answer.oldest).step for key, now in rl.items() if now.answer}
    lags = [step - 1 - oldest[key] for (_, step), keys in steps for key in keys]
    assert max(lags) == STALENESS == outcome["staleness"]["max"]
    assert min(lags) >= 0


def test_a_lost_rank_restarts_the_group_which_replays_to_where_it_was(
    finished: tuple[RunFolder, dict[str, Any], str],
) -> None:
    run, outcome, _ = finished
    (restarted,) = events(run, "learner_restarted")
    assert "learner rank 1 of 2 died" in restarted["cause"]
    assert restarted["step"] == SAVED
    steps = list(read_state(run.path / "journal").learner("rl").steps())
    incarnations = [incarnation for (incarnation, _), _ in steps]
    assert incarnations == [incarnations[0]] * SAVED + [restarted["incarnation"]] * (STEPS - SAVED)
    assert outcome["steps"] == STEPS
    written, replayed = metrics(run), events(run, "step_replayed")
    assert [event["step"] for event in replayed] == list(range(SAVED, DIES_IN))
    for event in replayed:  # equal ranks and threads: bit for bit
        for name in ("loss", "grad_norm"):
            assert event[name] == written[event["step"], name]


def test_the_object_store_returns_to_its_base(finished: tuple[RunFolder, dict[str, Any], str]) -> None:
    """Before the first step and after the last it holds images and one version of the weights, and no rollouts."""
    before, after = (event["bytes"] for event in events(finished[0], "store_in_use"))
    assert before > 1_000_000, "a version of the weights at least"
    assert abs(after - before) < 0.02 * before


def test_checkpoints_on_the_way_are_kept_by_rule(finished: tuple[RunFolder, dict[str, Any], str]) -> None:
    run, _, _ = finished
    saved = events(run, "checkpoint_saved")
    assert [event["step"] for event in saved] == [2, 4]
    kept = {path.name for path in (run.checkpoints / "rl-steps").iterdir()}
    assert kept == {"step-000004", f"step-{saved[-1]['best_step']:06d}"}


def test_sampler_and_trainer_agree_on_fresh_tokens_and_every_update_is_proven(
    finished: tuple[RunFolder, dict[str, Any], str],
) -> None:
    run, _, _ = finished
    fresh = [value for (_, name), value in metrics(run).items() if name == "mismatch_mean"]
    assert fresh
    assert max(fresh) < 1e-5
    kl = [value for (step, name), value in sorted(metrics(run).items()) if name == "kl"]
    assert kl[0] < 1e-9 < kl[-1], "the reference is where it began"
    updates = [event for event in events(run, "weights_updated") if event["label"].startswith("rl@")]
    assert {event["label"] for event in updates} == {f"rl@{step}" for step in range(STEPS + 1)}
    assert all(event["in_flight"] for event in updates)
    assert not events(run, "canary_differs")


def test_the_journal_s_tokens_are_on_disk(finished: tuple[RunFolder, dict[str, Any], str]) -> None:
    run, _, _ = finished
    state = read_state(run.path / "journal")
    for _, keys in state.learner("rl").steps():
        for key in keys:
            answer = state.keys[key].answer
            assert answer is not None
            with pa.memory_map(str(run.path / answer.refs[0])) as source:
                assert pa.ipc.open_file(source).read_all().num_rows == RECIPE.rl.group_size


def test_a_planted_temperature_stops_the_run_and_is_named(finished: tuple[RunFolder, dict[str, Any], str]) -> None:
    run, _, stopped = finished
    assert "truncation" in stopped
    assert "temperature" in stopped
    (event,) = events(run, "mismatch")
    assert event["layer"] == "truncation"
    assert event["step"] == 0
