"""When a canary is taken back: what it does in traffic against what the stable version does at the same time. Pure.

A request is an observation: whether it failed by our fault (5xx, or the stable version had to step in), how long it
took, whether its answer had the form that was asked for, and whether it said anything at all. Over a sliding window the
shares are compared by Fisher's exact test (one-sided), the seconds by Mann and Whitney's. A canary is worse where the
difference is significant *and* large enough to matter. The tests are looked at again and again as requests come, so the
level is far below the usual 5 %.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WINDOW_SECONDS = 1800.0
WINDOW_REQUESTS = 2000  # of each side
FEWEST_REQUESTS = 30  # of each side, before anything is judged
LEVEL = 0.001
MARGINS = {"failed": 0.02, "malformed": 0.05, "abstained": 0.05}  # of the share, canary minus stable
SLOWER_RATIO = 1.5  # of the medians
SLOWER_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One request at the door. ``t`` is in seconds since 1970; of one that failed nothing else may be known."""

    version: str
    t: float
    seconds: float
    failed: bool = False
    malformed: bool | None = None
    abstained: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """In ``what`` the canary is worse: its share (or median seconds), the stable version's, and the p-value."""

    what: str
    canary: float
    stable: float
    p: float

    def __str__(self) -> str:
        if self.what == "seconds":
            return f"median {self.canary:.2f} s a request against {self.stable:.2f} s (p = {self.p:.1g})"
        return f"{self.canary:.1%} of the answers {self.what} against {self.stable:.1%} (p = {self.p:.1g})"


class Watch:
    """The windows of one canary and of the stable version beside it."""

    def __init__(self, stable: str, canary: str) -> None:
        self.stable, self.canary = stable, canary
        self._seen: dict[str, deque[Observation]] = {stable: deque(), canary: deque()}

    def add(self, observation: Observation) -> None:
        """What is neither of the two is not looked at."""
        seen = self._seen.get(observation.version)
        if seen is None:
            return
        seen.append(observation)
        while len(seen) > WINDOW_REQUESTS or seen[0].t < observation.t - WINDOW_SECONDS:
            seen.popleft()

    @property
    def num_requests(self) -> tuple[int, int]:
        """(stable, canary) within the window."""
        return len(self._seen[self.stable]), len(self._seen[self.canary])

    def findings(self) -> list[Finding]:
        """In what the canary is worse; nothing before both have answered ``FEWEST_REQUESTS``."""
        return compare_windows(self._seen[self.canary], self._seen[self.stable])

    def summary(self) -> dict[str, dict[str, float]]:
        """Requests, shares and median seconds of both versions."""
        return {version: _numbers(list(seen)) for version, seen in self._seen.items()}


def compare_windows(canary: Sequence[Observation], stable: Sequence[Observation]) -> list[Finding]:
    """In what ``canary`` is worse than ``stable``, by the rule above."""
    from scipy.stats import hypergeom, mannwhitneyu

    if min(len(canary), len(stable)) < FEWEST_REQUESTS:
        return []
    found = []
    for what, margin in MARGINS.items():
        ours, theirs = _flags(canary, what), _flags(stable, what)
        if not ours or not theirs:
            continue
        share, baseline = sum(ours) / len(ours), sum(theirs) / len(theirs)
        if share - baseline < margin:
            continue
        # Fisher's exact test: as many flags or more among the canary's, were all flags dealt out by chance
        p = float(hypergeom.sf(sum(ours) - 1, len(ours) + len(theirs), sum(ours) + sum(theirs), len(ours)))
        if p < LEVEL:
            found.append(Finding(what=what, canary=share, stable=baseline, p=p))
    ours, theirs = [one.seconds for one in canary], [one.seconds for one in stable]
    slow, usual = median(ours), median(theirs)
    if slow >= SLOWER_RATIO * usual and slow - usual >= SLOWER_SECONDS:
        p = float(mannwhitneyu(ours, theirs, alternative="greater").pvalue)
        if p < LEVEL:
            found.append(Finding(what="seconds", canary=slow, stable=usual, p=p))
    return found


def _flags(seen: Sequence[Observation], what: str) -> list[bool]:
    return [flag for one in seen if (flag := getattr(one, what)) is not None]


def _numbers(seen: Sequence[Observation]) -> dict[str, float]:
    numbers: dict[str, float] = {"requests": len(seen)}
    for what in MARGINS:
        flags = _flags(seen, what)
        numbers[what] = round(sum(flags) / len(flags), 4) if flags else 0.0
    return numbers | {"median_seconds": round(median(one.seconds for one in seen), 4) if seen else 0.0}
