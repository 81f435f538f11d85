"""An object whose owner died: who waits for it, and who is given it, says that it is lost, and nothing worse."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from residency.platform.arrow_tables import to_table
from residency.platform.cli.crew import Crew
from residency.platform.cli.screen import Screen
from residency.platform.cli.stages.replaying import build_kept_step
from residency.platform.cli.stages.step_batch import StepGroup
from residency.platform.cluster import wait_for
from residency.platform.dataset_folder import DatasetCard, write_dataset
from residency.platform.errors import LostObjectError
from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Admitted, Answered, Judged
from residency.platform.pool.faults import Fate, fate_of
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Trace
from residency.platform.run_folder import RunFolder

SECONDS = 30.0
BIG = b"x" * 500_000  # of the store, and not sent along with the call


@pytest.fixture
def lost(ray_cluster: Any) -> Any:
    """Its owner sat on the other node, and is dead."""
    import ray

    class Owner:
        def own(self) -> list[Any]:
            return [ray.put(BIG)]

    owner: Any = ray.remote(Owner).options(num_cpus=0, **ray_cluster.on(ray_cluster.right)).remote()
    (reference,) = ray.get(owner.own.remote(), timeout=SECONDS)
    ray.kill(owner)
    return reference


def test_who_waits_for_it_gets_a_lost_object_error(lost: Any) -> None:
    with pytest.raises(LostObjectError, match="what generator-1 made in sampling is lost") as caught:
        asyncio.run(wait_for(lost, "generator-1", "sampling", SECONDS))
    assert fate_of(caught.value, None) is Fate.RESULT_LOST


def test_so_does_who_called_an_actor_with_it(lost: Any, ray_cluster: Any) -> None:
    import ray

    class Reader:
        def read(self, value: bytes) -> int:
            return len(value)

    reader: Any = ray.remote(Reader).options(num_cpus=0, **ray_cluster.on(ray_cluster.left)).remote()
    assert ray.get(reader.read.remote(ray.put(BIG)), timeout=SECONDS) == len(BIG)
    with pytest.raises(LostObjectError, match="verifier-1 was given an object for judging that is lost") as caught:
        asyncio.run(wait_for(reader.read.remote(lost), "verifier-1", "judging", SECONDS))
    assert fate_of(caught.value, reader) is Fate.ANSWERED, "the reader lives"
    ray.kill(reader)


ITEM = Item(
    id="a", content_key="a", source="lost", split=Split.TRAIN, licence="CC0", cluster="a", question="How many?",
    answer="1", answer_kind=AnswerKind.NUMBER, family=Family.TEXTUAL_REASONING,
)  # fmt: skip
KEY = "rl-0000/a"
PROFILE = Profile.model_validate(
    {
        "name": "lost",
        "generators": {"cpus": 0.1},
        "verifiers": {"cpus": 0.1},
        "synthesizers": {"cpus": 0.1},
        "learners": {"cpus": 0.1},
        "deadline_seconds": SECONDS,
    }
)


def traces() -> pa.Table:
    return to_table(
        [
            Trace(
                id=f"a{number}", item_id="a", role="policy", model="m", prompt_mode=PromptMode.THINK, prompt_hash="h",
                seed=0, sample_index=number, prompt_token_ids=(5, 6), token_ids=(7, 8 + number), logprobs=(-1.0, -2.0),
                policy_versions=(0, 0), text="1", finish_reason="stop",
            )
            for number in range(2)
        ],
        Trace,
    )  # fmt: skip


def test_rollouts_that_went_with_their_node_are_read_from_the_run_before_a_step_trains_on_them(
    lost: Any, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({"name": "lost", "data": {"format": "dataset", "source": "data"}})
    run = RunFolder(tmp_path)
    write_dataset(run.data, [ITEM], (), DatasetCard(name="lost", source="made here", licence="CC0", splits="one"))
    name, scores = run.write_part("traces", "rl-0000", 0, traces()), (0.0, 1.0)
    group = StepGroup(key=KEY, trace_ids=("a0", "a1"), scores=scores, traces_ref=lost)

    async def scenario(journal: Journal) -> pa.Table:
        await journal.durable(Admitted(KEY), Answered(KEY, "generator-1", (name,), 0, 0), Judged(KEY, scores))
        async with Crew(recipe, PROFILE, run, 0, Screen(quiet=True), journal) as crew:
            built = await build_kept_step(crew, "rl", [group])
            return await crew.fetch(built.batch_ref, "the batch")

    with Journal.open(tmp_path / "journal") as journal:
        batch = asyncio.run(asyncio.wait_for(scenario(journal), 4 * SECONDS))
    assert batch.column("id").to_pylist() == ["a0", "a1"]
    assert batch.column("token_ids").to_pylist() == [[5, 6, 7, 8], [5, 6, 7, 9]]
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert "rollouts_read_back" in kinds
