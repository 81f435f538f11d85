"""Twice as many requests as the server can answer, and a replica killed again and again.

What is asked of it: no crash, no growth, every request answered or refused with 429 or 503, and a client that tries
again gets its answer. An answer that was being streamed when its replica died cannot be refused any more: the load
asks for whole answers.
"""

import asyncio
import random
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from serving_load import Tally, capacity, chat, encoded, open_loop, retrying_client
from serving_processes import ProcessTree
from serving_sides import Side, build_model, our_server

GOALS = {"retry_error_ratio": 0.005, "growth_ratio": 1.1}
EXPECTED = {"200", "429", "503"}
REPLICA, LASTING = "ServeReplica", ("ProxyActor", "ServeController", "gcs_server", "raylet")
RETRYING_CLIENTS = 2
SAMPLE_SECONDS = 5.0


class Scene:
    """What is seen of the server while the load goes on."""

    def __init__(self, tree: ProcessTree) -> None:
        self.tree = tree
        self.kills = 0
        self.memory: list[tuple[float, dict[str, float]]] = []
        self.began = time.monotonic()

    async def kill_replicas(self, every: float, until: float) -> None:
        """One of those that live, at random."""
        choose = random.Random(0)
        due = self.began + every / 2
        while due < until - 1:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            alive = await asyncio.to_thread(self.tree.named, REPLICA)
            if alive:
                victim = choose.choice(alive)
                victim.kill()
                self.kills += 1
            due += every

    async def weigh(self, until: float) -> None:
        """The memory of all, again and again."""
        while time.monotonic() < until:
            sizes = await asyncio.to_thread(self.tree.memory_mib)
            self.memory.append((time.monotonic() - self.began, sizes))
            await asyncio.sleep(SAMPLE_SECONDS)

    def growth(self) -> dict[str, float]:
        """Medians (MiB) of the second quarter of the time and of the last, of all together and of what is never killed.

        The first quarter fills queues and caches.
        """
        end = self.memory[-1][0]
        found: dict[str, float] = {}
        for name, parts in (("all", ("",)), ("lasting", LASTING)):
            for label, low, high in (("early", 0.25, 0.5), ("late", 0.75, 1.01)):
                sizes = [
                    sum(size for title, size in sizes.items() if any(part in title for part in parts))
                    for at, sizes in self.memory
                    if low * end <= at <= high * end
                ]
                found[f"{name}_{label}_mib"] = statistics.median(sizes)
        return found


async def overload(
    side: Side, rate: float, seconds: float, kill_every: float, tokens: int
) -> tuple[Tally, Counter[str], Scene]:
    """The load, the killer, the scale and the clients that try again, all at once."""
    bodies = encoded([chat(side.model, number, tokens) for number in range(64)])
    scene = Scene(side.tree)
    until = scene.began + seconds
    async with asyncio.TaskGroup() as group:
        load = group.create_task(open_loop(side, bodies, rate, seconds))
        group.create_task(scene.kill_replicas(kill_every, until))
        group.create_task(scene.weigh(until))
        retrying = [
            group.create_task(retrying_client(side, chat(side.model, number, tokens), lambda: time.monotonic() > until))
            for number in range(RETRYING_CLIENTS)
        ]
    return load.result(), sum((each.result() for each in retrying), Counter()), scene


def judge(tally: Tally, retried: Counter[str], scene: Scene, lasts: bool, serves: bool) -> dict[str, Any]:
    """The document of this part."""
    growth = scene.growth()
    asked = sum(retried.values())
    unexpected = {name: count for name, count in tally.outcomes.items() if name not in EXPECTED}
    numbers = {
        "retry_error_ratio": (asked - retried["answered"]) / max(1, asked),
        "growth_ratio": max(growth[f"{name}_late_mib"] / growth[f"{name}_early_mib"] for name in ("all", "lasting")),
    }
    enough = tally.outcomes["200"] > 0 and retried["answered"] > 0 and scene.kills > 0
    holds = all(numbers[name] <= goal for name, goal in GOALS.items())
    return {
        "meets": holds and enough and not unexpected and lasts and serves,
        "goals": GOALS,
        **numbers,
        "outcomes": dict(tally.outcomes),
        "unexpected": unexpected,
        "retrying": dict(retried),
        "kills": scene.kills,
        "nothing_else_died": lasts,
        "serves_after": serves,
        "seconds_p50": statistics.median(tally.seconds) if tally.seconds else None,
        **growth,
    }


def measure(folder: Path, seconds: float, kill_every: float, tokens: int, replicas: int = 2) -> dict[str, Any]:
    """The whole part on a server of its own."""
    with our_server(folder, build_model(folder), replicas=replicas, threads=1) as side:
        bodies = encoded([chat(side.model, number, tokens) for number in range(64)])
        asyncio.run(capacity(side, bodies, 16, 5.0))  # what is loaded at the first request
        possible = asyncio.run(capacity(side, bodies, 24, max(5.0, seconds / 20)))
        lasting = lasting_processes(side.tree)
        tally, retried, scene = asyncio.run(overload(side, 2 * possible, seconds, kill_every, tokens))
        serves = asyncio.run(_serves(side, bodies))
        found = judge(tally, retried, scene, lasting == lasting_processes(side.tree), serves)
    return found | {"capacity_a_second": possible, "offered_a_second": 2 * possible, "seconds": seconds}


def lasting_processes(tree: ProcessTree) -> set[int]:
    """What is never killed."""
    return {process.pid for part in LASTING for process in tree.named(part)}


async def _serves(side: Side, bodies: list[bytes]) -> bool:
    """Whether it answers when all is over."""
    tally = await open_loop(side, bodies, 1.0, 5.0)
    return set(tally.outcomes) == {"200"}
