"""A writer killed at any moment leaves a registry that can be read, whole, and gone on with."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("registry_kills.py")
KILLS = 12


@pytest.mark.timeout(120)
def test_a_killed_writer_leaves_a_whole_registry(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    arguments = [str(tmp_path / "registry"), str(make_model(1)), str(KILLS)]
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= KILLS * 2 // 3, "every writer that was waited for made a change"
