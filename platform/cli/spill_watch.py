"""What the object store of a run's own cluster puts aside on the run's disk: told when it begins, ended at a limit."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from residency.platform.cli.notices import Notices
from residency.platform.errors import StorageError

LOOK_SECONDS = 2.0


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below; 0 where there is no such folder."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:  # Ray deletes what was read back
                continue
    return total


class SpillWatch:
    """Ray has no limit in bytes: beyond the profile's the run ends, before it has filled everybody's disk."""

    def __init__(self, folder: Path, limit_bytes: int, notices: Notices, event: Callable[..., None]) -> None:
        self._folder, self._limit, self._notices, self._event = folder, limit_bytes, notices, event

    async def watch(self) -> None:
        """Until it is cancelled, or the limit is passed."""
        told = False
        while True:
            spilled = await asyncio.to_thread(folder_bytes, self._folder)
            if spilled and not told:
                told = True
                self._event("object_store_spills", bytes=spilled, limit_bytes=self._limit)
            if spilled > self._limit:
                self._notices.fail(
                    StorageError(
                        f"the object store has spilled {spilled / 2**20:.0f} MiB to {self._folder}",
                        f"at most spill_mib {self._limit // 2**20} of the profile",
                        "raise object_store_mib (or spill_mib) in the profile, or have less in flight (rl.staleness,"
                        " rl.prompts_per_step), and start the same command again: it goes on",
                    )
                )
                return
            await asyncio.sleep(LOOK_SECONDS)
