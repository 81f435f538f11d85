"""Records a small RL run without an engine, for tests that replay it: ``recorded_run.py RUN``.

Learners, journal, run folder and the batch of a step are the real ones. Tokens and logprobs are drawn by chance instead
of sampled: what a replay recomputes does not depend on who drew them. Steps 1, 2, 4 and 5 train, step 3 is
skipped; a state checkpoint is saved after step 2. KL is in the reward, and a group holds a rollout without a score.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from residency.platform.arrow_tables import to_table
from residency.platform.cli.crew import Crew
from residency.platform.cli.screen import Screen
from residency.platform.cli.stages.rl_loss import loss_config
from residency.platform.cli.stages.step_batch import StepGroup, build_step
from residency.platform.cluster import local_cluster, prepare_environment, put
from residency.platform.dataset_folder import DatasetCard, write_dataset
from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Admitted, Answered, Judged, Requested, Restored, Trained
from residency.platform.media_store import encode_png, media_hash
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Trace
from residency.platform.run_folder import RunFolder
from residency.training.rl_metrics import learner_metrics, unit_of

SKIPPED_STEP, CHECKPOINT_STEP, LAST_STEP = 3, 2, 5
GROUPS, ROLLOUTS, TOKENS = 3, 4, 12
RECIPE = Recipe.model_validate(
    {
        "name": "recorded",
        "data": {"format": "starter"},
        "rl": {
            "algorithm": "grpo", "steps": LAST_STEP, "optimizer": {"learning_rate": 1e-3, "schedule": "cosine"},
            "kl": {"place": "reward", "estimator": "k1", "coefficient": 0.01},
        },
    }
)  # fmt: skip
PROFILE = Profile.model_validate(
    {
        "name": "two-ranks", "cluster_cpus": 2, "object_store_mib": 100, "deadline_seconds": 200,
        "learners": {"actors": 2, "cpus": 0.25, "threads": 1, "zero_stage": 2, "micro_batch_tokens": 128},
    }
)  # fmt: skip


def write_data(run: RunFolder) -> list[Item]:
    pixels = np.random.default_rng(0).integers(0, 255, (GROUPS, 84, 84, 3), dtype=np.uint8)
    pngs = [encode_png(Image.fromarray(picture)) for picture in pixels]
    items = [
        Item(
            id=f"item{number}", content_key=f"key{number}", source="recorded", split=split, licence="CC0",
            cluster=str(number), media=(media_hash(pngs[number % GROUPS]),), question="which side is the lesion on?",
            options=("left", "right"), answer="left", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
        )
        for number, split in enumerate([Split.TRAIN] * GROUPS + [Split.HELD_OUT])
    ]  # fmt: skip
    write_dataset(run.data, items, pngs, DatasetCard(name="recorded", source="-", licence="CC0", splits="-"))
    return items[:GROUPS]


def draw_traces(items: list[Item], prompts: dict[str, list[int]], vocabulary: int, step: int) -> pa.Table:
    """G traces an item, of different lengths; ids from the middle of the vocabulary, where no special token is."""
    rng = np.random.default_rng(step)
    traces = []
    for item in items:
        for sample in range(ROLLOUTS):
            length = int(rng.integers(2, TOKENS))
            traces.append(
                Trace(
                    id=f"{step}-{item.id}-{sample}", item_id=item.id, role="policy", model="rl",
                    prompt_mode=PromptMode.THINK, prompt_hash="-", seed=0, sample_index=sample, text="-",
                    prompt_token_ids=tuple(prompts[item.id]), finish_reason="stop",
                    token_ids=tuple(int(token) for token in rng.integers(vocabulary // 2, vocabulary, length)),
                    logprobs=tuple(float(value) for value in rng.uniform(-6, -4, length)),
                    policy_versions=(step - 1,) * length,
                )
            )  # fmt: skip
    return to_table(traces, Trace)


async def record(run: RunFolder) -> None:
    from residency.synthesis.examples import direct_example
    from residency.training.student import build_student
    from residency.training.training_batch import BatchReader

    run.open(RECIPE, PROFILE)
    items = write_data(run)
    build_student(run.checkpoints / "sft", [items[0].question, "left right of the picture is it so then " * 3], seed=0)
    rl = RECIPE.rl
    loss = loss_config(rl, RECIPE.student.max_new_tokens)
    with Journal.open(run.path / "journal") as journal, local_cluster(PROFILE, run.logs):
        async with Crew(RECIPE, PROFILE, run, 0, Screen(quiet=True), journal) as crew:
            from residency.platform.records import Example

            examples = to_table([direct_example(item) for item in items], Example)
            reader = BatchReader(await crew.fetch(await crew.encode(examples, "sft"), "the prompts"))
            rows = [reader.row(row) for row in range(len(items))]
            prompts = {item.id: row.tokens[: row.prompt_length].tolist() for item, row in zip(items, rows, strict=True)}
            vocabulary = max(int(row.tokens.max()) for row in rows)
            await crew.load_learners("sft", rl.optimizer, rl.steps)
            await crew.learners.hold_reference(crew.checkpoint("sft"))
            await journal.durable(Restored(crew.incarnation, 0, 0))
            for step in range(1, LAST_STEP + 1):
                if step == SKIPPED_STEP:
                    await crew.learners.skip_step()
                    await journal.durable(Trained((), crew.incarnation, step))
                    continue
                purpose = f"rl-{step:04d}"
                traces = draw_traces(items, prompts, vocabulary, step)
                part = run.write_part("traces", purpose, 0, traces)
                traces_ref, rng = put(traces), np.random.default_rng(100 + step)
                groups = []
                for number, item in enumerate(reversed(items)):  # the step's order is the journal's, not the part's
                    key, scores = f"{purpose}/{item.id}", [float(score) for score in rng.uniform(0, 1, ROLLOUTS)]
                    known = tuple(None if (number, place) == (0, 1) else score for place, score in enumerate(scores))
                    ids = tuple(f"{step}-{item.id}-{sample}" for sample in range(ROLLOUTS))
                    groups.append(StepGroup(key=key, trace_ids=ids, scores=known, traces_ref=traces_ref))
                    await journal.durable(
                        Admitted(key), Requested(key, "g", 1), Answered(key, "g", (part,)), Judged(key, known)
                    )
                batch = await build_step(crew, groups)
                trained = await crew.learners.forward_backward(batch.batch_ref, None, loss)
                update = await crew.learners.optim_step()
                await journal.durable(Trained(tuple(group.key for group in groups), crew.incarnation, step))
                values = learner_metrics(trained, update)
                run.metric("rl", step - 1, values, {name: unit_of(name) for name in values})
                if step == CHECKPOINT_STEP:
                    await crew.save_learners(f"rl-steps/step-{step:06d}", {"step": step})


if __name__ == "__main__":
    prepare_environment()
    asyncio.run(record(RunFolder(Path(sys.argv[1]))))
