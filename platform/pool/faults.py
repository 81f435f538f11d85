"""What an error of a call says about the worker that had it."""

from enum import Enum
from typing import Any


class Fate(Enum):
    """Of the worker, seen from one call."""

    ANSWERED = "answered"
    """It lives: the error is its answer (or a deadline's, or somebody else's)."""
    DIED = "died"
    UNAVAILABLE = "unavailable"
    """It may live: nothing is known, and the same call may be tried again."""
    RESULT_LOST = "result lost"
    """What it answered is gone; whether it lives must be asked."""


def fate_of(error: BaseException, actor: Any) -> Fate:
    """Reads Ray's errors bare or as the cause of a RoleError of ``cluster.wait_for``.

    An error that the worker's own code raised is its answer, also where it says that another actor died. The memory
    monitor's OutOfMemoryError is a death, though Ray does not count it among its actor errors.
    """
    from ray.exceptions import (
        ActorPlacementGroupRemoved,
        ActorUnavailableError,
        ActorUnschedulableError,
        NodeDiedError,
        ObjectLostError,
        OutOfMemoryError,
        RayActorError,
        RayError,
        RayTaskError,
        WorkerCrashedError,
    )

    seen = error if isinstance(error, RayError) else error.__cause__
    if isinstance(seen, RayTaskError) or not isinstance(seen, RayError):
        return Fate.ANSWERED
    if isinstance(seen, RayActorError):
        if seen.actor_id and seen.actor_id != actor._actor_id.hex():
            return Fate.ANSWERED
        return Fate.UNAVAILABLE if isinstance(seen, ActorUnavailableError) else Fate.DIED
    if isinstance(seen, ObjectLostError):
        return Fate.RESULT_LOST
    deaths = (
        OutOfMemoryError,
        NodeDiedError,
        WorkerCrashedError,
        ActorUnschedulableError,
        ActorPlacementGroupRemoved,
    )
    return Fate.DIED if isinstance(seen, deaths) else Fate.ANSWERED
