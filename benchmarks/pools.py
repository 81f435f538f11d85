"""Pools under fire, with real Ray actors: how soon work of a killed worker goes on, and what joiners are worth.

Verifiers and a simulated generator (each host an actor of its own) are killed with SIGKILL in the middle of calls.
Then a pool of simulated generators goes 1 → 4 → 1 under load; who did what is read back from the journal.

    python benchmarks/pools.py [--kills 5] [--groups 400]
"""

import argparse
import asyncio
import itertools
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

GOALS = {
    "verifier_reroute_seconds": 1.0,
    "verifier_replace_seconds": 5.0,
    "generator_replace_seconds": 10.0,
    "joined_share": 0.3,
    "lost": 0,
}
DEADLINE_SECONDS = 300
BATCH = 256  # traces that one verifier call judges


class Watch:
    """Events of a pool with their times, and the moment of each time a request was asked."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, dict[str, Any]]] = []
        self.asked: dict[str, list[tuple[float, str]]] = {}

    def note(self, kind: str, **details: Any) -> None:
        self.events.append((time.monotonic(), kind, details))

    def after(self, moment: float, kind: str) -> float | None:
        """Seconds from the moment to the next event of the kind."""
        return next((when - moment for when, each, _ in self.events if each == kind and when > moment), None)


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("the pool did not get there before the deadline")
        await asyncio.sleep(0.01)


async def kill_repeatedly(pool: Any, watch: Watch, one: Callable[[str], Awaitable[Any]], kills: int) -> dict[str, Any]:
    """Keep the pool loaded, kill a busy worker again and again; seconds until work and worker were elsewhere."""
    reroutes: list[float] = []
    replaces: list[float] = []
    numbers = itertools.count()
    answered, stop = 0, False

    async def feed() -> None:
        nonlocal answered
        while not stop:
            await one(f"call-{next(numbers)}")
            answered += 1

    feeders = [asyncio.ensure_future(feed()) for _ in range(2 * pool.config.maximum * pool.config.requests_per_worker)]
    for _ in range(kills):
        await until(lambda: len(pool.members) == pool.config.minimum)
        await asyncio.sleep(0.5)
        victim = pool.members[0]
        held = {key: len(asked) for key, asked in watch.asked.items() if asked[-1][1] == victim.name}
        killed = time.monotonic()
        os.kill(victim.birth.pid, signal.SIGKILL)
        await until(lambda moment=killed: watch.after(moment, "worker_joined") is not None)
        replaces.append(watch.after(killed, "worker_joined") or 0.0)
        await until(lambda held=held: all(watch.asked[key][-1][1] == "answered" for key in held))
        # one that was answered in the moment of the kill was not asked again
        reroutes += [
            watch.asked[key][count][0] - killed for key, count in held.items() if len(watch.asked[key]) > count + 1
        ]
    stop = True
    await asyncio.gather(*feeders)
    return {
        "reroute_seconds": {"max": round(max(reroutes), 3), "median": round(statistics.median(reroutes), 3)},
        "replace_seconds": {"max": round(max(replaces), 3), "median": round(statistics.median(replaces), 3)},
        "kills": kills,
        "requests_rerouted": len(reroutes),
        "answered": answered,
        "cause": next(details["cause"] for _, kind, details in reversed(watch.events) if kind == "worker_lost"),
    }


async def dead_verifiers(kills: int) -> dict[str, Any]:
    import ray

    from residency.actors.verifier import start_verifier
    from residency.platform.arrow_tables import to_table
    from residency.platform.pool.config import PoolConfig
    from residency.platform.pool.pool import Pool
    from residency.platform.profiles import RoleConfig
    from residency.platform.prompts import prompt_hash, render_completion, render_prompt
    from residency.platform.recipe import RewardConfig
    from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Trace

    mode = PromptMode.THINK
    item = Item(
        id="item", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k", question="how much?",
        answer="500 mg", answer_kind=AnswerKind.NUMBER, family=Family.TEXTUAL_REASONING,
    )  # fmt: skip
    traces = [
        Trace(
            id=f"item/{n}", item_id="item", role="policy", model="base", prompt_mode=mode, seed=0, sample_index=n,
            prompt_hash=prompt_hash(render_prompt(item, mode)), finish_reason="stop",
            text=render_completion("0.5 g", mode, "grey"),
        )
        for n in range(BATCH)
    ]  # fmt: skip
    traces_ref, items, reward = ray.put(to_table(traces, Trace)), to_table([item], Item), RewardConfig()
    watch = Watch()

    async def prepare(member: Any) -> None:
        await member.handle.judge.remote(traces_ref, items, reward)  # its judge process is up

    config = PoolConfig(role="verifier", minimum=2, maximum=2, requests_per_worker=2, start_seconds=120)
    start = lambda name: start_verifier(placement=RoleConfig(cpus=0.1))  # noqa: E731
    async with Pool(config, start, prepare=prepare, events=watch.note) as pool:

        async def one(key: str) -> int:
            def verb(member: Any) -> Any:
                watch.asked.setdefault(key, []).append((time.monotonic(), member.name))
                return member.handle.judge.remote(traces_ref, items, reward)

            verdicts = await pool.call(verb, what=f"judging {key}")
            watch.asked[key].append((time.monotonic(), "answered"))
            return verdicts.num_rows

        await pool.ready()
        return await kill_repeatedly(pool, watch, one, kills)


def generator_parts() -> tuple[Any, Any, Callable[[str], Any]]:
    """A quick simulated engine, its sampling, and a request table by key."""
    import pyarrow as pa

    from residency.actors.engine_requests import REQUEST_SCHEMA
    from residency.actors.simulated_answers import load_simulated_config
    from residency.platform.sampling import SamplingConfig

    quick = {"median_tokens": 30, "p99_tokens": 120, "step_seconds": 0.005}
    config = load_simulated_config().model_copy(update=quick)

    def requests(key: str) -> Any:
        row = {"item_id": key, "prompt": "how many cells?", "media": [], "prompt_mode": "think", "num_samples": 4}
        return pa.Table.from_pylist([row | {"seed": 0}], schema=REQUEST_SCHEMA)

    return config, SamplingConfig(temperature=1.0, max_new_tokens=128), requests


async def dead_generators(kills: int) -> dict[str, Any]:
    from residency.actors.simulated_host import start_simulated_host
    from residency.platform.pool.config import PoolConfig
    from residency.platform.pool.pool import Pool

    engine, sampling, requests = generator_parts()
    watch = Watch()
    config = PoolConfig(role="generator", minimum=2, maximum=2, requests_per_worker=4, start_seconds=120)

    async def prepare(member: Any) -> None:
        await member.handle.policy_version.remote(0)

    start = lambda name: start_simulated_host(1, engine, num_cpus=0.1)  # noqa: E731
    async with Pool(config, start, prepare=prepare, events=watch.note) as pool:

        async def one(key: str) -> int:
            def verb(member: Any) -> Any:
                watch.asked.setdefault(key, []).append((time.monotonic(), member.name))
                return member.handle.generate.remote(0, requests(key), sampling)

            traces = await pool.call(verb, what=f"generating {key}")
            watch.asked[key].append((time.monotonic(), "answered"))
            return traces.num_rows

        await pool.ready()
        return await kill_repeatedly(pool, watch, one, kills)


async def scaling(groups: int, folder: Path) -> dict[str, Any]:
    """1 → 4 → 1 while ``groups`` requests run, one engine a worker; the share of who joined, out of the journal."""
    from residency.actors.simulated_host import start_simulated_host
    from residency.platform.journal.journal import Journal
    from residency.platform.journal.reader import JournalReader
    from residency.platform.journal.records import Answered
    from residency.platform.pool.config import PoolConfig
    from residency.platform.pool.pool import Pool
    from residency.platform.work_queue import WorkQueue

    engine, sampling, requests = generator_parts()
    watch = Watch()
    config = PoolConfig(role="generator", minimum=1, maximum=1, requests_per_worker=4, grace_seconds=10)
    start = lambda name: start_simulated_host(1, engine, num_cpus=0.1)  # noqa: E731
    with Journal.open(folder / "journal") as journal:
        queue = WorkQueue(journal)
        keys = queue.admit({f"rl-0/{number}": "" for number in range(groups)})
        async with Pool(config, start, events=watch.note) as pool:

            async def one(key: str) -> None:
                async def verb(member: Any) -> tuple[str, Any]:
                    await queue.request([key], member.name)
                    try:
                        return member.name, await member.handle.generate.remote(0, requests(key), sampling)
                    except asyncio.CancelledError:
                        await queue.give_back([key], f"{member.name} left", spent=member.spent)
                        raise

                worker, traces = await pool.call(verb, what=f"generating {key}")
                assert traces.num_rows == 4
                await queue.answer([Answered(key, worker)])

            await pool.ready()
            began = time.monotonic()
            tasks = [asyncio.ensure_future(one(key)) for key in keys]
            answered = lambda: sum(task.done() for task in tasks)  # noqa: E731
            await until(lambda: answered() >= groups // 8)
            pool.resize(1, 4)
            await until(lambda: len(pool.members) == 4)
            grown = answered()
            await until(lambda: answered() >= groups * 3 // 4)
            shrunk = answered()
            pool.resize(1, 1)
            await asyncio.gather(*tasks)
            seconds = time.monotonic() - began
            await until(lambda: sum(kind == "worker_left" for _, kind, _ in watch.events) == 3)
            one_left = len(pool.members)
    frames = JournalReader(folder / "journal").frames()
    answers = [record for frame in frames for record in frame.records if isinstance(record, Answered)]
    together = answers[grown:shrunk]
    joined = sum(answer.worker != "generator-1" for answer in together)
    return {
        "groups": groups,
        "lost": len(set(keys) - {answer.key for answer in answers}),
        "answered_twice": len(answers) - len({answer.key for answer in answers}),
        "answered_while_four": len(together),
        "joined_share": round(joined / len(together), 3),
        "by_worker": {name: sum(a.worker == name for a in answers) for name in sorted({a.worker for a in answers})},
        "workers_at_the_end": one_left,
        "seconds": round(seconds, 2),
    }


async def measure(kills: int, groups: int, folder: Path) -> dict[str, Any]:
    return {
        "verifier": await dead_verifiers(kills),
        "generator": await dead_generators(kills),
        "scaling": await scaling(groups, folder),
    }


def main() -> None:
    from reporting import report

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--groups", type=int, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rp-", ignore_cleanup_errors=True) as name:  # short: Ray's sockets
        ray.init(
            num_cpus=4,
            object_store_memory=100 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=str(Path(name) / "r"),
        )
        try:
            measured = asyncio.run(measure(arguments.kills, arguments.groups, Path(name)))
        finally:
            ray.shutdown()
    numbers = {
        "verifier_reroute_seconds": measured["verifier"]["reroute_seconds"]["max"],
        "verifier_replace_seconds": measured["verifier"]["replace_seconds"]["max"],
        "generator_replace_seconds": measured["generator"]["replace_seconds"]["max"],
        "joined_share": measured["scaling"]["joined_share"],
        "lost": measured["scaling"]["lost"],
    }
    holds = {
        name: number >= GOALS[name] if name == "joined_share" else number <= GOALS[name]
        for name, number in numbers.items()
    }
    report(
        "pools",
        numbers["verifier_replace_seconds"],
        "seconds until a killed verifier is replaced, the longest",
        GOALS["verifier_replace_seconds"],
        all(holds.values()),
        {"numbers": numbers, "goals": GOALS, "holds": holds, **measured},
    )


if __name__ == "__main__":
    main()
