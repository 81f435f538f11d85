"""Any number of ranks, ZeRO stage and way of keeping activations is the same training; a rank's death is told."""

import os
import signal
import time
from typing import Any

import pytest

from residency.platform.errors import RoleError

STEPS = 20


@pytest.mark.timeout(300)
def test_two_ranks_under_zero3_equal_one(bench: Any) -> None:
    async def scenario() -> None:
        taken = {}
        for ranks, more in ((1, {}), (2, {}), (2, {"activation_checkpointing": True}), (2, {"dtype": "bfloat16"})):
            group = await bench.start(bench.folder, ranks, 3, **more)
            try:
                taken[ranks, *more] = await bench.steps(group, 3 if more else STEPS)
            finally:
                await group.close()
        one, two = taken[1,], taken[2,]
        print(f"largest relative difference over {STEPS} steps: {bench.difference(one, two):.1e}")
        assert bench.difference(one, two) <= 1e-4
        assert one[-1][0] < 0.3 * one[0][0], "it learns: the steps are no repetition"
        recomputed = taken[2, "activation_checkpointing"]
        assert bench.difference(recomputed, two[:3]) <= 1e-6
        half = taken[2, "dtype"]
        assert 1e-6 < bench.difference(half, two[:3]) <= 0.05

    bench.run(scenario)


def pid(_: Any) -> int:
    return os.getpid()


@pytest.mark.timeout(200)
def test_a_rank_that_is_killed_in_mid_step_is_named_and_nothing_stays(bench: Any) -> None:
    import ray

    async def scenario() -> None:
        group = await bench.start(bench.folder, 2, 3)
        try:
            pids = ray.get([actor.__ray_call__.remote(pid) for actor in group._actors], timeout=60)
            os.kill(pids[1], signal.SIGKILL)
            started = time.monotonic()
            with pytest.raises(RoleError, match="learner rank 1 of 2 died in forward_backward: .*SIGKILL"):
                await bench.steps(group, 1)
        finally:
            await group.close()
        assert time.monotonic() - started < 60
        while any(os.path.exists(f"/proc/{number}") for number in pids):
            assert time.monotonic() - started < 90, "a rank outlived its group"
            time.sleep(0.2)

    bench.run(scenario)
