"""What the journal says: one frozen record for each step in the life of a piece of work.

A key names one piece of work (a group of rollouts, a teacher's request, an evaluation's question). Records hold states
and references; the tokens and texts lie in ``traces/``. They are written as arrays, so fields are only ever added at
the end, with a default: an older record then still reads.
"""

from msgspec import Struct


class Opened(Struct, frozen=True, array_like=True, tag="opened", gc=False):
    """A driver took the journal's place; everything after it until the next such record is this driver's."""

    host: str
    pid: int
    time: float


class Admitted(Struct, frozen=True, array_like=True, tag="admitted", gc=False):
    """Work to be done. ``request`` says what is asked: a reference, or a few bytes of the caller's own format."""

    key: str
    request: str = ""


class Requested(Struct, frozen=True, array_like=True, tag="requested", gc=False):
    """Handed to a worker; from here until ``Answered``, ``Released`` or ``Failed`` it is in flight."""

    key: str
    worker: str
    asked: int  # how many times by now, this one included


class Released(Struct, frozen=True, array_like=True, tag="released", gc=False):
    """Given back by a worker without an answer. ``spent``: it counts against the key's number of tries."""

    key: str
    cause: str
    spent: bool


class Answered(Struct, frozen=True, array_like=True, tag="answered", gc=False):
    """The answer is on disk. ``refs`` say where; ``oldest``/``newest`` are packed policy versions of its tokens."""

    key: str
    worker: str
    refs: tuple[str, ...] = ()
    oldest: int = 0
    newest: int = 0


class Judged(Struct, frozen=True, array_like=True, tag="judged", gc=False):
    """Every answer of the key has its verdict; a score is None where our own verifier failed."""

    key: str
    scores: tuple[float | None, ...]
    refs: tuple[str, ...] = ()


class Trained(Struct, frozen=True, array_like=True, tag="trained", gc=False):
    """One optimizer step with all its groups, in their order: one record, so that a step is journalled whole or not.

    A step that was skipped (no group to learn from) has no keys. ``learner`` is whose weights: a run may train several
    from one checkpoint (``rl`` and its controls), and each has an ancestry of its own.
    """

    keys: tuple[str, ...]
    incarnation: int
    step: int
    learner: str = "rl"


class Restored(Struct, frozen=True, array_like=True, tag="restored", gc=False):
    """A learner goes on as a new incarnation from the checkpoint of (``parent_incarnation``, ``parent_step``)."""

    incarnation: int
    parent_incarnation: int
    parent_step: int
    learner: str = "rl"


class Dropped(Struct, frozen=True, array_like=True, tag="dropped", gc=False):
    """Will not be used, on purpose (all rewards equal, too stale, …)."""

    key: str
    reason: str


class Failed(Struct, frozen=True, array_like=True, tag="failed", gc=False):
    """Given up after its last try: a dead letter, until it is taken up again. The cause holds no secrets."""

    key: str
    cause: str


class TakenUp(Struct, frozen=True, array_like=True, tag="taken_up", gc=False):
    """A dead letter is admitted once more, with all its tries."""

    key: str


Record = Opened | Admitted | Requested | Released | Answered | Judged | Trained | Restored | Dropped | Failed | TakenUp
