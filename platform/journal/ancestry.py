"""Which optimizer steps led to a learner's present weights, over its restarts from checkpoints.

A version is (incarnation, step). Incarnation 0 begins at step 0; a restart begins a new incarnation at the version of
a checkpoint, its parent, and what was trained beyond that version is no longer in the weights.

    (0,1) ─ (0,2) ─ (0,3)           trained a, b, c; then restored from the checkpoint of (0,1):
        └── (1,2)                   b and c are to be trained on again, in this order; b is trained at (1,2)
"""

from collections.abc import Iterator

from residency.platform.errors import DataError
from residency.platform.journal.records import Restored, Trained

Version = tuple[int, int]  # (incarnation, step)


class Ancestry:
    """One learner's steps. ``replay`` holds what waits to be trained on again, in order, with its lost version."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.step = 0
        self.replay: dict[str, Version] = {}
        self.settled = 0  # no checkpoint before this step will be gone back to
        self._steps: dict[Version, tuple[str, ...]] = {}
        self._reached = {0: 0}  # incarnation → its last step
        self._parents: dict[int, Version] = {}

    def steps(self) -> Iterator[tuple[Version, tuple[str, ...]]]:
        """Optimizer steps that led to the present weights, oldest first, each with its keys."""
        head = (self.incarnation, self.step)
        last = {head[0]: head[1]}
        while (parent := self._parents.get(head[0])) is not None:
            head = parent
            last[head[0]] = head[1]
        for version in sorted(self._steps):
            if version[1] <= last.get(version[0], -1):
                yield version, self._steps[version]

    def settle(self, step: int) -> list[str]:
        """No checkpoint before ``step`` will be gone back to; returns the keys that this is new for."""
        found = [key for version, keys in self.steps() if self.settled < version[1] <= step for key in keys]
        self.settled = max(self.settled, step)
        return found

    def check_step(self, record: Trained) -> None:
        """Raises DataError where this is not a next step of the present incarnation."""
        if record.incarnation != self.incarnation or record.step <= self.step:
            raise DataError(
                f"a step ({record.incarnation}, {record.step}) of {record.learner}"
                f" after ({self.incarnation}, {self.step})",
                "the next step of the present incarnation",
            )

    def train(self, record: Trained) -> None:
        """Takes a checked step in."""
        self.step = self._reached[self.incarnation] = record.step
        self._steps[record.incarnation, record.step] = record.keys
        if self.replay:
            for key in record.keys:
                self.replay.pop(key, None)

    def restore(self, record: Restored) -> tuple[dict[str, Version], dict[str, Version]]:
        """Goes back to a checkpoint; returns the keys that its weights lack now, and those that they have.

        Raises DataError, and changes nothing, where the checkpoint is none of this learner's.
        """
        parent = (record.parent_incarnation, record.parent_step)
        reached = self._reached.get(parent[0], -1)
        begun = self._parents.get(parent[0], (0, 0))[1]
        if record.incarnation <= self.incarnation or not begun <= parent[1] <= reached:
            raise DataError(
                f"incarnation {record.incarnation} of {record.learner} from checkpoint {parent},"
                f" after incarnation {self.incarnation}, with journalled steps of {parent[0]} up to {reached}",
                "a new incarnation from a checkpoint whose steps are all in the journal",
                "go on from an older checkpoint",
            )
        if parent[1] < self.settled:
            raise DataError(
                f"{record.learner} goes back to step {parent[1]}, and all up to {self.settled} was settled",
                "the details of its steps: recall them from disk first",
            )
        before = list(self.steps())
        self._parents[record.incarnation] = parent
        self.incarnation, self.step = record.incarnation, record.parent_step
        self._reached[record.incarnation] = record.parent_step
        kept = {key: version for version, keys in self.steps() for key in keys}
        lost = {key: version for version, keys in before for key in keys if key not in kept}
        # what still waits from an earlier restart stood behind everything that was trained since
        due = {**lost, **self.replay}
        self.replay = {key: version for key, version in due.items() if key not in kept}
        return lost, kept
