"""The phases of a weight update: how long each may take, which one is under way, and the error that names it."""

import time
from collections.abc import Mapping

from residency.platform.errors import DeadlineError, WeightUpdateError

# gather, put: the learners; pull … reset: an engine; canary: an engine, then the learners.
SHARES = {
    "gather": 0.25,
    "put": 0.10,
    "pull": 0.10,
    "drain": 0.25,
    "verify": 0.05,
    "load": 0.15,
    "reset": 0.03,
    "canary": 0.07,
}
IN_ENGINE: tuple[str, ...] = ("pull", "drain", "verify", "load", "reset", "canary")


def phase_deadlines(seconds: float) -> dict[str, float]:
    """Seconds for each phase of an update that may take ``seconds`` in all."""
    return {phase: share * seconds for phase, share in SHARES.items()}


class LatePhaseError(DeadlineError):
    """A phase of a weight update came to its deadline; names who was in it. ``phase`` is its name."""

    def __init__(self, seen: str, wanted: str = "", remedy: str = "", phase: str = "") -> None:
        super().__init__(seen, wanted, remedy)
        self.args = (seen, wanted, remedy, phase)  # positional, so that it pickles
        self.phase = phase


def late(who: str, phase: str, label: str, seconds: float, note: str = "") -> LatePhaseError:
    """The error of who was in this phase of the weights ``label`` when its deadline came."""
    return LatePhaseError(
        f"{who} in {phase}, which weights {label} had not passed after {seconds:.1f} s{note}",
        "every phase before its deadline, a share of deadline_seconds",
        "see the log of who is named; or raise deadline_seconds in the profile",
        phase,
    )


def phase_of(error: BaseException) -> str:
    """The phase in which this error came; empty where it cannot be known (who died does not say)."""
    if isinstance(error, LatePhaseError):
        return error.phase
    return "verify" if isinstance(error, WeightUpdateError) else ""


class PhaseClock:
    """Where one update of one engine is. One thread at a time moves it, any may look."""

    def __init__(self, deadlines: Mapping[str, float]) -> None:
        self._deadlines = deadlines
        self._now = ("", 0.0)  # one assignment: who looks sees a phase with its own start
        self.seconds: dict[str, float] = {}

    @property
    def phase(self) -> str:
        return self._now[0]

    def enter(self, phase: str) -> None:
        """The phase before it, if any, has ended."""
        now = time.perf_counter()
        before, began = self._now
        if before:
            self.seconds[before] = now - began
        self._now = (phase, now)

    def left(self) -> float:
        """Seconds until the present phase is late; below 0 where it is. Once all are through, none can be."""
        phase, began = self._now
        return self._deadlines.get(phase, float("inf")) - (time.perf_counter() - began)

    def late(self, label: str, who: str = "its engine") -> LatePhaseError:
        """The error of the present phase."""
        return late(who, self.phase, label, self._deadlines[self.phase])
