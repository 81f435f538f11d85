"""A driver to be killed: one job over the work queue and simulated engines, without Ray.

    python tests/chaos/job_driver.py RUN NUM_REQUESTS

Started again on the same folder it goes on; it exits with 0 when every request is answered. What it leaves behind:
``journal/``, ``traces/part-*.arrow`` (each written before its ``Answered``) and ``asked.jsonl`` (the engines' own log).
"""

import asyncio
import sys
from pathlib import Path

import pyarrow as pa

from residency.actors.engine_requests import REQUEST_SCHEMA
from residency.actors.simulated_answers import load_simulated_config
from residency.actors.simulated_engine import SimulatedEngine
from residency.platform.clock import RealClock
from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Answered
from residency.platform.records import PolicyVersion
from residency.platform.run_folder import write_arrow
from residency.platform.sampling import SamplingConfig
from residency.platform.work_queue import WorkQueue

NUM_ENGINES = 4
SLOTS_AN_ENGINE = 4  # requests in flight in each
SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=512)
VERSION = PolicyVersion(incarnation=0, step=0)
# the shipped shape, a hundred times as fast, so that hundreds of lives of a driver fit into minutes
FAST = load_simulated_config().model_copy(
    update={"median_tokens": 60, "p99_tokens": 600, "step_seconds": 0.0004, "sequence_seconds": 0.00001}
)


def keys_of(num_requests: int) -> list[str]:
    return [f"job/{number:06d}" for number in range(num_requests)]


def request_of(key: str) -> pa.Table:
    row = {
        "item_id": key, "prompt": f"what of {key}?", "media": [], "prompt_mode": "direct", "num_samples": 1, "seed": 0
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=REQUEST_SCHEMA)


def make_engine(number: int, log: Path | None) -> SimulatedEngine:
    return SimulatedEngine(FAST, version=VERSION, label="base", clock=RealClock(), name=f"engine-{number}", log=log)


async def drive(run: Path, num_requests: int) -> None:
    """Until every key is answered."""
    with Journal.open(run / "journal") as journal:
        queue = WorkQueue(journal)
        queue.admit(dict.fromkeys(keys_of(num_requests), "sample"))
        todo = iter(queue.waiting("job/"))
        life = len(journal.state.opened)
        parts = 0

        async def slot(engine: SimulatedEngine, worker: str) -> None:
            nonlocal parts
            for key in todo:
                for asked in await queue.request([key], worker):
                    traces = await engine.generate_async(request_of(asked), SAMPLING)
                    parts += 1
                    part = f"traces/part-{life:04d}-{parts:06d}.arrow"
                    await asyncio.to_thread(write_arrow, traces, run / part)
                    await queue.answer([Answered(asked, worker, (part,))])

        engines = [make_engine(number, run / "asked.jsonl") for number in range(NUM_ENGINES)]
        async with asyncio.TaskGroup() as slots:
            for number, engine in enumerate(engines):
                for _ in range(SLOTS_AN_ENGINE):
                    slots.create_task(slot(engine, f"engine-{number}"))


if __name__ == "__main__":
    asyncio.run(drive(Path(sys.argv[1]), int(sys.argv[2])))
