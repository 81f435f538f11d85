"""One run's driver in a process of its own: a pool of simulated generators works a queue off on a running cluster.

    python tests/ray/pool_driver.py RUN ADDRESS NUM_REQUESTS MOST_GENERATORS

One generator has NUM_REQUESTS to do. More have as many again once all are at work, and until then always some.

What it leaves in RUN: ``journal/``, ``traces/``, ``events.jsonl``, ``nodes.jsonl`` (a line a second: nodes up).
It stays until the pool is back at one generator and, once that has ended too, the cluster at one node; it ends with 0.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from residency.actors.engine_requests import REQUEST_SCHEMA
from residency.actors.simulated_answers import load_simulated_config
from residency.actors.simulated_host import simulated_generators, start_simulated_host
from residency.platform.cluster import namespace_of, stop_actor
from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Answered
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool
from residency.platform.run_folder import RunFolder
from residency.platform.sampling import SamplingConfig
from residency.platform.work_queue import WorkQueue

SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=512)
# half a second a request, whatever its length
SPEED = load_simulated_config().model_copy(
    update={"median_tokens": 50, "p99_tokens": 50, "step_seconds": 0.01, "sequence_seconds": 0.0, "max_sequences": 1}
)


def request_of(key: str) -> pa.Table:
    row = {
        "item_id": key, "prompt": f"what of {key}?", "media": [], "prompt_mode": "direct", "num_samples": 1, "seed": 0
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=REQUEST_SCHEMA)


def nodes_up() -> int:
    return sum(node["Alive"] for node in ray.nodes())


async def watch_nodes(path: Path) -> None:
    while True:
        with path.open("a") as file:
            file.write(json.dumps({"t": time.time(), "nodes": nodes_up()}) + "\n")
        await asyncio.sleep(1.0)


async def drive(run: RunFolder, num_requests: int, most: int) -> None:
    def start(name: str) -> Any:
        return simulated_generators(start_simulated_host(1, SPEED, num_cpus=1, name=name), 1)[0]

    async def stop(member: Member) -> None:
        stop_actor(member.handle.host)  # a pool leaves hosts alone; here each has one engine

    config = PoolConfig(
        role="generator", minimum=1, maximum=most, requests_per_worker=1, idle_seconds=2, grace_seconds=5,
        start_seconds=120, health_seconds=2,
    )  # fmt: skip
    with Journal.open(run.path / "journal") as journal:
        queue = WorkQueue(journal)
        watch = asyncio.ensure_future(watch_nodes(run.path / "nodes.jsonl"))
        async with Pool(config, start, stop=stop, events=run.event) as pool:

            async def one(key: str) -> None:
                async def ask(member: Member) -> pa.Table:
                    await queue.request([key], member.name)
                    try:
                        return await member.handle.generate.remote(request_of(key), SAMPLING)
                    except asyncio.CancelledError:
                        await queue.give_back([key], f"{member.name} left", spent=member.spent)
                        raise

                traces = await pool.call(ask, what="generating")
                part = run.write_part("traces", "run", int(key.rpartition("/")[2]), traces)
                await queue.answer([Answered(key, "generator", (part,))])

            asked: dict[str, asyncio.Task[None]] = {}

            def grow_to(number: int) -> None:
                queue.admit({f"run/{each:04d}": "sample" for each in range(number)})
                for key in queue.waiting("run/"):
                    if key not in asked:
                        asked[key] = asyncio.ensure_future(one(key))

            grow_to(num_requests)
            while len(pool.members) < most:  # the queue grows for as long as nodes are on their way
                if sum(not task.done() for task in asked.values()) < 2 * most:
                    grow_to(len(asked) + most)
                await asyncio.sleep(0.1)
            if most > 1:
                run.event("all_joined")
                grow_to(len(asked) + num_requests)
            await asyncio.gather(*asked.values())
            while len(pool.members) > 1:
                await asyncio.sleep(0.2)
            run.event("queue_empty")
            while most > 1 and nodes_up() > 2:  # the last generator may sit on either side
                await asyncio.sleep(0.5)
        while most > 1 and nodes_up() > 1:
            await asyncio.sleep(0.5)
        await asyncio.sleep(1.0)  # one more line of the watch
        watch.cancel()


if __name__ == "__main__":
    folder = RunFolder(Path(sys.argv[1]))
    ray.init(address=sys.argv[2], namespace=namespace_of(folder.path), log_to_driver=False)
    asyncio.run(asyncio.wait_for(drive(folder, int(sys.argv[3]), int(sys.argv[4])), 220))
    ray.shutdown()
