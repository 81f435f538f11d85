"""Requests and weight updates of one engine, kept apart."""

import asyncio

import pytest

from residency.actors.serving.version_gate import VersionGate
from residency.platform.serving.refusals import Refusal


def test_an_update_waits_for_those_before_it_and_holds_up_those_after() -> None:
    log: list[str] = []

    async def request(gate: VersionGate, name: str, ended: asyncio.Event) -> None:
        await gate.enter()
        log.append(f"{name} begins")
        await ended.wait()
        log.append(f"{name} ends")
        gate.leave()

    async def update(gate: VersionGate) -> None:
        async with gate.update():
            log.append("update")
            await asyncio.sleep(0.01)
            log.append("updated")

    async def story() -> None:
        gate, ended = VersionGate(5.0), asyncio.Event()
        before = [asyncio.create_task(request(gate, name, ended)) for name in ("a", "b")]
        await asyncio.sleep(0)
        updating = asyncio.create_task(update(gate))
        await asyncio.sleep(0)
        after = asyncio.create_task(request(gate, "c", ended))
        await asyncio.sleep(0.01)
        assert log == ["a begins", "b begins"]
        assert (gate.running, gate.present, gate.updating) == (2, 3, True)
        ended.set()
        await asyncio.gather(*before, updating, after)
        assert (gate.running, gate.present, gate.updating) == (0, 0, False)

    asyncio.run(story())
    assert log == ["a begins", "b begins", "a ends", "b ends", "update", "updated", "c begins", "c ends"]


def test_whoever_waits_too_long_is_told() -> None:
    async def story() -> None:
        gate = VersionGate(0.02)
        await gate.enter()
        with pytest.raises(TimeoutError):
            async with gate.update():
                raise AssertionError("it went in beside a request")
        assert not gate.updating  # and the requests go on
        await gate.enter()
        gate.leave()
        gate.leave()
        async with gate.update():
            with pytest.raises(Refusal, match="updating"):
                await gate.enter()
        assert (gate.running, gate.present) == (0, 0)

    asyncio.run(story())


def test_a_failed_update_lets_requests_in_again() -> None:
    async def story() -> None:
        gate = VersionGate(1.0)
        with pytest.raises(ValueError, match="broken"):
            async with gate.update():
                raise ValueError("broken")
        await gate.enter()

    asyncio.run(story())
