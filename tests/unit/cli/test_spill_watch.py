"""What the object store spills is told once, and ends the run at the profile's limit."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from residency.platform.cli import spill_watch
from residency.platform.cli.notices import Notices
from residency.platform.cli.spill_watch import SpillWatch, folder_bytes
from residency.platform.errors import StorageError


def test_a_stage_ends_when_more_is_spilled_than_the_profile_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill_watch, "LOOK_SECONDS", 0.02)
    told: list[tuple[str, dict[str, Any]]] = []
    spill = tmp_path / "spill"

    async def stage() -> None:
        await asyncio.sleep(0.1)
        assert told == [], "an absent folder is nothing spilled"
        (spill / "node").mkdir(parents=True)
        (spill / "node" / "a").write_bytes(bytes(600))
        await asyncio.sleep(0.1)
        assert [kind for kind, _ in told] == ["object_store_spills"]
        (spill / "node" / "b").write_bytes(bytes(600))
        await asyncio.sleep(60)

    async def scenario() -> None:
        notices = Notices(1.0, lambda kind, **details: told.append((kind, details)))
        watch = SpillWatch(spill, 1000, notices, lambda kind, **details: told.append((kind, details)))
        watching = asyncio.create_task(watch.watch())
        with pytest.raises(StorageError, match="has spilled 0 MiB.*raise object_store_mib"):
            await notices.during(stage())
        await watching

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert folder_bytes(spill) == 1200
    assert [kind for kind, _ in told] == ["object_store_spills"]
