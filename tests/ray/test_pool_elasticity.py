"""Pools that grow, shrink and take joiners while calls are under way; what is in flight stays bounded."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import ray

from residency.platform.errors import RoleError
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool


def test_bytes_in_flight_are_bounded_in_the_whole_pool(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene()

    async def scenario() -> None:
        in_flight: list[int] = [0]
        most = [0, 0]

        def sized(num_bytes: int) -> Callable[[Member], Awaitable[Any]]:
            async def verb(member: Member) -> Any:
                in_flight[0] += num_bytes
                most[0], most[1] = max(most[0], in_flight[0]), max(most[1], member.in_flight)
                try:
                    return await member.handle.work.remote("sized", 0.02)
                finally:
                    in_flight[0] -= num_bytes

            return verb

        async with scene.pool(minimum=2, maximum=2, requests_per_worker=3, max_bytes=100) as pool:
            await pool.ready()
            sizes = [40] * 20 + [10] * 20
            await asyncio.gather(*(pool.call(sized(n), what="working", num_bytes=n) for n in sizes))
        assert 80 <= most[0] <= 100
        assert most[1] == 3

    scene.run(scenario)


def test_one_to_four_to_one_under_load_loses_nothing_and_joiners_work(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene()

    async def scenario() -> None:
        async with scene.pool(requests_per_worker=2, idle_seconds=1) as pool:
            await pool.ready()
            by_worker: dict[str, int] = {}

            async def one(number: int) -> str:
                names: list[str] = []

                def verb(member: Member) -> Awaitable[Any]:
                    names.append(member.name)
                    return member.handle.work.remote(str(number), 0.05)

                key, _, _ = await pool.call(verb, what="working")
                by_worker[names[-1]] = by_worker.get(names[-1], 0) + 1
                return key

            answered: list[str] = []
            asked, stop = itertools.count(), False

            async def feed() -> None:
                while not stop:
                    answered.append(await one(next(asked)))

            feeders = [asyncio.ensure_future(feed()) for _ in range(16)]
            pool.resize(1, 4)
            await scene.until(lambda: len(pool.members) == 4)
            before, first = len(answered), by_worker.get("worker-1", 0)
            await scene.until(lambda: len(answered) >= before + 100)
            joined = 1 - (by_worker["worker-1"] - first) / (len(answered) - before)
            pool.resize(1, 1)
            await scene.until(lambda: len(pool.members) == 1 and len(scene.told("worker_left")) == 3)
            stop = True
            await asyncio.gather(*feeders)
            assert sorted(answered, key=int) == [str(number) for number in range(next(asked))]  # none lost, none twice
            assert len(by_worker) == 4
            assert joined >= 0.3
            pool.resize(1, 4)
            await asyncio.gather(*(one(number) for number in range(12)))
            await scene.until(lambda: len(pool.members) == 1)  # idle ones leave by themselves

    scene.run(scenario)


def test_a_leaver_drains_or_is_cut_off_at_its_grace(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene()

    async def scenario() -> None:
        async with scene.pool(minimum=2, maximum=2, grace_seconds=4) as pool:
            await pool.ready()
            seen: list[str] = []

            notes: list[tuple[str, bool]] = []

            def slow_once(seconds: float) -> Callable[[Member], Awaitable[Any]]:
                async def verb(member: Member) -> Any:
                    notes.append((member.name, False))
                    seen.append(member.name)
                    try:
                        return await member.handle.work.remote("slow", seconds if len(seen) < 3 else 0)
                    except asyncio.CancelledError:
                        await asyncio.sleep(0.1)  # as long as a note takes to reach the disk
                        notes.append((member.name, member.spent))
                        raise

                return verb

            calls = [asyncio.ensure_future(pool.call(slow_once(each), what="working")) for each in (0.3, 60)]
            await scene.until(lambda: len(seen) == 2)
            for name in seen:
                pool.request_leave(name, "preempted")
            started = time.monotonic()
            await asyncio.gather(*calls)
            assert time.monotonic() - started < 30
            await scene.until(lambda: len(scene.told("worker_left")) == 2)
            given_back = {left["worker"]: left["requests_given_back"] for left in scene.told("worker_left")}
            assert given_back == {seen[0]: 0, seen[1]: 1}
            assert seen[2] not in seen[:2]
            # what the cancelled verb notes stands before it is called again
            assert [name for name, _ in notes] == [seen[0], seen[1], seen[1], seen[2]]
            assert not any(spent for _, spent in notes)  # leaving counts against nobody
            assert {leaving["reason"] for leaving in scene.told("worker_leaving")} == {"preempted"}
        assert not scene.told("worker_lost")

    scene.run(scenario)


def test_each_drops_who_fails_and_a_joiner_has_the_newest_before_its_first_request(
    ray_cluster: Any, new_scene: Any
) -> None:
    scene = new_scene()

    async def scenario() -> None:
        newest = 1

        async def prepare(member: Member) -> None:
            version = newest
            await member.handle.work.remote("preparing", 0.3)
            await member.handle.take.remote(version)

        settings = PoolConfig(role="worker", minimum=3, maximum=3, start_seconds=60, health_seconds=1)
        async with Pool(settings, scene.start, prepare=prepare, events=scene.note) as pool:
            await pool.ready()
            newest = 2
            refusing = pool.members[1].name
            results = await pool.each(
                lambda it: it.handle.take.remote(-1 if it.name == refusing else 2), what="taking weights 2"
            )
            assert sorted(results.values()) == [2, 2]
            assert refusing not in results
            await asyncio.sleep(0.2)  # the replacement is being started or prepared when the next version comes
            newest = 3
            assert set((await pool.each(lambda it: it.handle.take.remote(3), what="taking weights 3")).values()) == {3}
            await scene.until(lambda: len(pool.members) == 3)
            answers = await asyncio.gather(*(pool.call(scene.work(str(n), 0.2), what="working") for n in range(6)))
            assert {version for _, _, version in answers} == {3}
            assert len({pid for _, pid, _ in answers}) == 3
            with pytest.raises(RoleError, match="no worker of 3 finished taking weights 4; the first: wrong digest"):
                await pool.each(lambda it: it.handle.take.remote(-1), what="taking weights 4")
            await scene.until(lambda: len(pool.members) == 3)
            killed = pool.members
            for member in killed:
                assert member.birth is not None
                os.kill(member.birth.pid, signal.SIGKILL)
            assert await pool.each(lambda it: it.handle.take.remote(3), what="taking weights 3") == {}
            assert pool.members  # all died: it waited for one that was prepared instead
            assert not set(pool.members) & set(killed)
        assert "wrong digest" in scene.told("worker_lost")[0]["cause"]

    scene.run(scenario)


def test_closing_ends_workers_that_never_started_and_nobody_is_left(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene(num_cpus=1000)  # no node can ever give that

    async def scenario() -> None:
        started = time.monotonic()
        async with scene.pool(start_seconds=300) as pool:
            await asyncio.sleep(0.2)
            assert not pool.members
        assert time.monotonic() - started < 30

    scene.run(scenario)
    alive = new_scene()

    async def second() -> list[int]:
        async with alive.pool(minimum=2, maximum=2) as pool:
            await pool.ready()
            return [member.birth.pid for member in pool.members if member.birth]

    pids = alive.run(second)
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(alive.told("worker_left")) == 2


def test_workers_of_one_host_die_with_it_as_one_crash_and_leave_it_alone(ray_cluster: Any, new_scene: Any) -> None:
    class Share:
        def __init__(self, host: Any) -> None:
            self.host = host

    scene, hosts = new_scene(max_concurrency=4), list[Any]()

    def start(name: str) -> Share:
        if not hosts:
            hosts.append(scene.start(name))
        return Share(hosts[-1])

    async def scenario() -> None:
        config = PoolConfig(role="worker", minimum=3, maximum=3, max_crashes=2, start_seconds=60, health_seconds=1)
        async with Pool(config, start, events=scene.note) as pool:
            await pool.ready()
            calls = [
                asyncio.ensure_future(
                    pool.call(lambda it, n=n: it.handle.host.work.remote(str(n), 0.3), what="working")
                )
                for n in range(6)
            ]
            await asyncio.sleep(0.2)
            (pid,) = {member.birth.pid for member in pool.members if member.birth}
            hosts.clear()
            os.kill(pid, signal.SIGKILL)
            assert [key for key, _, _ in await asyncio.gather(*calls)] == [str(n) for n in range(6)]
            await scene.until(lambda: len(pool.members) == 3 and len(scene.told("worker_lost")) == 3)
        assert len({lost["cause"] for lost in scene.told("worker_lost")}) == 1
        assert len(await hosts[-1].log.remote()) > 0  # the pool's end left the host alone
        ray.kill(hosts[-1])

    scene.run(scenario)
