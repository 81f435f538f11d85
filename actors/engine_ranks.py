"""The processes of an engine of several ranks: which has died and how, and that none outlives the engine."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine

REAP_SECONDS = 2.0
END_SECONDS = 15.0  # vLLM gives its ranks 5 s to go and 4 s more after SIGTERM
SHARED_MEMORY = "/dev/shm/"


class EngineRanks:
    """The ranks of one engine that is up; none where the engine's only rank is this process."""

    def __init__(self, engine: "LLMEngine") -> None:
        self._engine = engine
        self._executor: Any = engine.model_executor
        self._processes: list[Any] = [worker.proc for worker in getattr(self._executor, "workers", ())]
        # Which vLLM unlinks when its processes end by themselves; a rank that is killed leaves its own behind.
        self._segments = {segment for process in self._processes for segment in mapped_segments(process.pid)}

    def lost(self) -> str:
        """Which ranks have ended unasked, in words; empty while all live."""
        if not self._processes or not self._executor.is_failed:
            return ""
        ended: list[str] = []
        deadline = time.monotonic() + REAP_SECONDS  # vLLM knows of the death a moment before the exit code is known
        while not ended and time.monotonic() < deadline:
            # vLLM ends the others after the first: whoever is still on its way out is not the cause
            codes = [(rank, process.exitcode) for rank, process in enumerate(self._processes)]
            ended = [f"rank {rank} ended {_in_words(code)}" for rank, code in codes if code is not None]
            time.sleep(0 if ended else 0.02)
        return ", ".join(ended) or "a rank ended"

    def end(self) -> None:
        """Shut the engine down; returns when no rank and no shared memory of theirs is left."""
        self._engine.engine_core.shutdown()
        for process in self._processes:
            process.join(END_SECONDS)  # where a rank had died, vLLM's own watcher may still be ending the others
            if process.exitcode is None:
                process.kill()
                process.join(END_SECONDS)
        for segment in self._segments:
            segment.unlink(missing_ok=True)


def mapped_segments(process_id: int) -> set[Path]:
    """Named POSIX shared memory that a process of this node has mapped."""
    lines = Path(f"/proc/{process_id}/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in lines if SHARED_MEMORY in line}
    return {Path(path) for path in paths if path.startswith(SHARED_MEMORY) and not path.endswith(" (deleted)")}


def _in_words(exit_code: int) -> str:
    return f"by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"with exit code {exit_code}"
