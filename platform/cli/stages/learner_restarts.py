"""A learner group that is lost is started anew inside the job; how often, and when that is given up."""

from collections.abc import Iterator
from contextlib import contextmanager

from residency.platform.errors import RoleError

MAX_RESTARTS = 3  # from one and the same checkpoint


class LearnersLost(RoleError):
    """A verb of the learner group failed: the group is of no more use. ``__cause__`` is the group's own error."""


@contextmanager
def learners_at_work() -> Iterator[None]:
    """What fails in here is the learner group's failure, and no other role's."""
    try:
        yield
    except RoleError as error:
        raise LearnersLost(error.seen, error.wanted, error.remedy) from error


class Restarts:
    """Counts restarts that came no further than the checkpoint they went back to."""

    def __init__(self, most: int = MAX_RESTARTS) -> None:
        self._most, self._step, self._count = most, -1, 0

    def note(self, step: int, lost: RoleError) -> str:
        """One more from the checkpoint of ``step``; returns the cause. Raises ``lost`` where that was tried enough."""
        self._count = self._count + 1 if step == self._step else 1
        self._step = step
        if self._count > self._most:
            raise lost
        return lost.seen
