"""Pools whose workers and nodes die in the middle of calls: nothing is lost, and every cause is told."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import RayActorError

from residency.platform.errors import DataError, DeadlineError, RoleError
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.pool import Pool


@contextmanager
def raises_within(error: type[Exception], match: str, seconds: float) -> Iterator[None]:
    started = time.monotonic()
    with pytest.raises(error, match=match):
        yield
    assert time.monotonic() - started < seconds


def test_work_of_a_killed_worker_goes_on_elsewhere_and_it_is_replaced(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene(**ray_cluster.on(ray_cluster.right))

    async def scenario() -> None:
        async with scene.pool(minimum=2, maximum=2, requests_per_worker=2, deadline_seconds=30) as pool:
            await pool.ready()
            calls = [asyncio.ensure_future(pool.call(scene.work(str(n), 0.3), what="working")) for n in range(16)]
            await asyncio.sleep(0.5)
            victim = pool.members[0]
            assert victim.birth is not None
            killed = time.monotonic()
            os.kill(victim.birth.pid, signal.SIGKILL)
            await scene.until(lambda: victim not in pool.members)
            known = time.monotonic()
            answers = await asyncio.gather(*calls)
            assert [key for key, _, _ in answers] == [str(n) for n in range(16)]  # every call was answered
            await scene.until(lambda: len(pool.members) == 2)
            await scene.until(lambda: bool(scene.told("worker_lost")))
            assert known - killed <= 5  # benchmarks/pools.py has the numbers of an idle machine
            assert scene.when("worker_joined") - killed <= 30
        (lost,) = scene.told("worker_lost")
        assert lost["worker"] == victim.name
        assert "killed with SIGKILL" in lost["cause"]
        assert lost["requests_rerouted"] == 2

    scene.run(scenario)


def test_causes_are_told_in_words_with_the_last_log_lines(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene(**ray_cluster.on(ray_cluster.right))

    async def scenario() -> None:
        async with scene.pool(minimum=3, maximum=3) as pool:
            await pool.ready()
            endings = {"SIGTERM": "terminated by SIGTERM", "SIGSEGV": "crashed with SIGSEGV", "exit": "exit code 5"}
            for member, how in zip(pool.members, endings, strict=True):
                with pytest.raises(RayActorError):
                    await member.handle.end.remote(how)
            await scene.until(
                lambda: len(scene.told("worker_lost")) == 3
            )  # the supervisor's probes found them all, idle
            causes = " ".join(lost["cause"] for lost in scene.told("worker_lost"))
            for how, words in endings.items():
                assert words in causes
                assert f"about to end: {how}" in causes
            await scene.until(lambda: len(pool.members) == 3)

    scene.run(scenario)


def test_a_crash_loop_backs_off_and_stops_the_pool_with_the_cause(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene()
    scene.faults = ["no such folder: /models/x"] * 9

    async def scenario() -> None:
        async with scene.pool(max_crashes=3, backoff_seconds=0.4) as pool:
            calls = [asyncio.ensure_future(pool.call(scene.work(str(n)), what="working")) for n in range(3)]
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, RoleError)
                assert "3 deaths in a row" in str(outcome)
                assert "could not start: ValueError: no such folder: /models/x" in str(outcome)
            with raises_within(RoleError, "no such folder", 1):
                await pool.call(scene.work("late"), what="working")
        assert len(scene.told("worker_lost")) == 3
        assert len(scene.faults) == 6  # nobody was started after that

    scene.run(scenario)


def test_a_request_that_kills_its_workers_is_refused_and_spares_the_others(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene()

    async def scenario() -> None:
        async with scene.pool(minimum=2, maximum=2, requests_per_worker=4) as pool:
            await pool.ready()
            poison = pool.call(lambda member: member.handle.end.remote("SIGKILL"), what="judging item-7")
            others = [pool.call(scene.work(str(n), 0.05), what="working") for n in range(40)]
            outcome, *answers = await asyncio.gather(poison, *others, return_exceptions=True)
        assert isinstance(outcome, RoleError)
        assert "judging item-7 has cost 3 workers their lives" in str(outcome)
        assert "SIGKILL" in str(outcome)
        assert [answer[0] for answer in answers if isinstance(answer, tuple)] == [str(n) for n in range(40)]
        assert len(scene.told("request_refused")) == 1

    scene.run(scenario)


def test_what_a_worker_raises_itself_passes_through_and_a_late_one_is_named(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene()

    async def scenario() -> None:
        async with scene.pool() as pool:
            with pytest.raises(DataError, match="cannot be judged"):
                await pool.call(lambda member: member.handle.refuse.remote(), what="judging")
            with raises_within(DeadlineError, r"worker-1 did not finish judging item-3 within 1 s", 5):
                await pool.call(scene.work("slow", 2.5), what="judging item-3", seconds=1)
            key, _, _ = await pool.call(
                scene.work("next"), what="judging", seconds=30
            )  # it has to answer a probe first
            assert key == "next"
        assert not scene.told("worker_lost")

    scene.run(scenario)


def test_work_of_a_hung_worker_goes_on_elsewhere_and_work_that_hangs_them_all_is_refused(
    ray_cluster: Any, new_scene: Any
) -> None:
    scene = new_scene()

    async def scenario() -> None:
        async with scene.pool(requests_per_worker=2, health_seconds=0.5) as pool:
            await pool.ready()
            (hung,) = pool.members
            assert hung.birth is not None
            os.kill(hung.birth.pid, signal.SIGSTOP)
            calls = [pool.call(scene.work(key), what="judging", seconds=2) for key in "ab"]
            answers = await asyncio.gather(*calls)
            assert [key for key, _, _ in answers] == ["a", "b"]
            assert hung.birth.pid not in {pid for _, pid, _ in answers}
            (lost,) = scene.told("worker_lost")
            assert (lost["worker"], lost["requests_rerouted"]) == (hung.name, 0)
            assert f"{hung.name} did not finish a health probe within 2 s" in lost["cause"]
            await scene.until(lambda: not psutil.pid_exists(hung.birth.pid))  # Ray has ended it, stopped as it was

            with pytest.raises(DeadlineError, match="did not finish judging item-3 within 1 s"):
                await pool.call(scene.work("stuck", 60), what="judging item-3", seconds=1)
            await pool.call(scene.work("after"), what="judging", seconds=30)
        assert len(scene.told("worker_lost")) == 4
        assert [refused["what"] for refused in scene.told("request_refused")] == ["judging item-3"]

    scene.run(scenario)


def test_a_worker_that_is_only_unavailable_is_asked_again_and_not_replaced(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene(max_restarts=1)  # Ray says that an actor which it restarts is unavailable

    async def scenario() -> None:
        async with scene.pool(health_seconds=5) as pool:
            await pool.ready()
            call = asyncio.ensure_future(pool.call(scene.work("it", 1), what="working"))
            await asyncio.sleep(0.3)
            before = pool.members[0]
            assert before.birth is not None
            os.kill(before.birth.pid, signal.SIGKILL)
            key, pid, _ = await call
            assert (key, pool.members) == ("it", [before])
            assert pid != before.birth.pid
        assert len(scene.told("worker_unavailable")) == 1
        assert not scene.told("worker_lost")

    scene.run(scenario)


def test_a_lost_node_is_told_and_its_work_goes_on_elsewhere(ray_cluster: Any, new_scene: Any) -> None:
    scene = new_scene()
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}", "--block", "--num-cpus=1"]
    command += ['--resources={"doomed": 1}', f"--object-store-memory={80 * 1024 * 1024}", "--disable-usage-stats"]
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        nodes = [each for each in ray.nodes() if each["Alive"]]
        deadline = time.monotonic() + 120
        while "doomed" not in ray.cluster_resources():
            assert time.monotonic() < deadline, nodes
            time.sleep(0.1)

        async def scenario() -> None:
            started: list[Any] = []

            def start(name: str) -> Any:
                extra = {} if started else {"resources": {"doomed": 0.1}}
                started.append(name)
                return ray.remote(scene.worker_class).options(num_cpus=0.05, **extra).remote()

            config = PoolConfig(role="worker", start_seconds=60, health_seconds=1)
            async with Pool(config, start, events=scene.note) as pool:
                await pool.ready()
                call = asyncio.ensure_future(pool.call(scene.work("it", 2), what="working"))
                await asyncio.sleep(0.3)
                for child in psutil.Process(node.pid).children(recursive=True):
                    child.kill()
                assert (await asyncio.wait_for(call, 60))[0] == "it"
                await scene.until(lambda: bool(scene.told("worker_lost")))
            cause = scene.told("worker_lost")[0]["cause"]
            assert "its node" in cause, cause

        scene.run(scenario)
    finally:
        node.kill()
        node.wait(timeout=10)
