"""A pool of generators that stops takes no request with it: all are asked again by the next driver."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from residency.actors.engine_requests import REQUEST_SCHEMA
from residency.platform.cli.stages.sampling import generate_chunk
from residency.platform.errors import PoolStoppedError, RoleError
from residency.platform.journal.journal import Journal
from residency.platform.journal.state import Stage
from residency.platform.recipe import Recipe
from residency.platform.sampling import SamplingConfig
from residency.platform.work_queue import TRIES, WorkQueue

KEY = "rl-0004/a"
RECIPE = Recipe.model_validate({"name": "stopped", "data": {"format": "dataset", "source": "data"}})
REQUEST = {"item_id": "a", "prompt": "?", "media": [], "prompt_mode": "think", "num_samples": 4, "seed": 0}


class FailingPool:
    """Gives the request to a worker, and then fails."""

    def __init__(self, crew: Any, error: RoleError) -> None:
        self._crew, self._error = crew, error

    async def call(self, *_: Any, **__: Any) -> Any:
        await self._crew.queue.request([KEY], "generator-1")
        raise self._error


def tries_spent(folder: Path, error: RoleError) -> tuple[Stage, int]:
    """What the journal says of the request after as many failures as there are tries."""
    with Journal.open(folder) as journal:
        crew: Any = SimpleNamespace(queue=WorkQueue(journal), recipe=RECIPE)
        crew.queue.admit({KEY: "what"})
        requests = pa.Table.from_pylist([REQUEST], schema=REQUEST_SCHEMA)
        sampling = SamplingConfig(temperature=1.0, max_new_tokens=8)
        chunk: Any = SimpleNamespace(keys=[KEY], items=[], requests=requests, sampling=sampling, purpose="rl-0004")
        for _ in range(TRIES):
            with pytest.raises(type(error)):
                asyncio.run(generate_chunk(crew, chunk, FailingPool(crew, error), lambda: None))  # type: ignore[arg-type]
        now = journal.state.keys[KEY]
        return now.stage, now.tries


def test_the_end_of_the_pool_costs_a_request_no_try_and_its_own_failure_does(tmp_path: Path) -> None:
    assert tries_spent(tmp_path / "stopped", PoolStoppedError("the pool of generators stopped")) == (Stage.ADMITTED, 0)
    assert tries_spent(tmp_path / "refused", RoleError("its prompt is too long"))[0] is Stage.FAILED
