"""The state of a run as a fold over its journal: the same records always give the same state.

``advance`` is the pure part (one key, one record); ``JournalState`` holds the keys and each learner's ancestry. A
driver applies each record before it is written, so a step that makes no sense never reaches the disk.
"""

from enum import IntEnum

from msgspec import Struct

from residency.platform.errors import DataError
from residency.platform.journal.ancestry import Ancestry, Version
from residency.platform.journal.records import (
    Admitted,
    Answered,
    Dropped,
    Failed,
    Judged,
    Opened,
    Record,
    Released,
    Requested,
    Restored,
    TakenUp,
    Trained,
)


class Stage(IntEnum):
    """How far a key has come."""

    ADMITTED = 0
    REQUESTED = 1
    ANSWERED = 2
    JUDGED = 3
    TRAINED = 4
    DROPPED = 5
    FAILED = 6


class Progress(Struct, frozen=True, gc=False):
    """All that is known of one key. ``asked`` counts requests, ``tries`` those that count against its limit."""

    stage: Stage
    admitted: Admitted
    asked: int = 0
    tries: int = 0
    worker: str = ""
    cause: str = ""  # why it was released, dropped or failed last
    answer: Answered | None = None
    verdict: Judged | None = None
    trained: Version | None = None


# What a driver keeps of keys that it will not ask about again: the rest stands on disk.
SETTLED = {
    stage: Progress(stage, Admitted("", "(settled: the journal on disk has the rest)"))
    for stage in (Stage.TRAINED, Stage.DROPPED)
}

KeyRecord = Requested | Released | Answered | Judged | Dropped | Failed | TakenUp
ADMITTED, REQUESTED, ANSWERED, JUDGED, TRAINED, DROPPED, FAILED = Stage


def advance(now: Progress, record: KeyRecord) -> Progress:
    """What one record makes of a key's progress; raises DataError for a step that makes no sense."""
    stage, about = now.stage, now.admitted
    match record:  # arguments by position: a million records are replayed at every start
        case Requested() if stage is ADMITTED:
            return Progress(REQUESTED, about, record.asked, now.tries, record.worker)
        case Answered() if stage <= REQUESTED:  # an answer that comes after its release is as good as another
            return Progress(ANSWERED, about, now.asked, now.tries, record.worker, "", record)
        case Judged() if stage is ANSWERED:
            return Progress(JUDGED, about, now.asked, now.tries, now.worker, "", now.answer, record)
        case Released() if stage is REQUESTED:
            return Progress(ADMITTED, about, now.asked, now.tries + record.spent, "", record.cause)
        case Dropped() if stage <= JUDGED:
            return Progress(DROPPED, about, now.asked, now.tries, now.worker, record.reason, now.answer, now.verdict)
        case Failed() if stage <= JUDGED:
            return Progress(FAILED, about, now.asked, now.tries + 1, now.worker, record.cause, now.answer, now.verdict)
        case TakenUp() if stage is FAILED:
            return Progress(ADMITTED, about, now.asked)
        case _:
            raise DataError(
                f"{type(record).__name__} for {record.key}, which is {stage.name.lower()}",
                "the order admitted, requested, answered, judged, then trained or dropped",
            )


def is_settled(progress: Progress) -> bool:
    return progress is SETTLED.get(progress.stage)


class JournalState:
    """Keys in the order of their admission, and which of them each learner's present weights have been trained on."""

    def __init__(self) -> None:
        self.keys: dict[str, Progress] = {}
        self.opened: list[Opened] = []
        self._learners: dict[str, Ancestry] = {}
        self._dropped: list[str] = []  # since the last that were settled

    def learner(self, name: str = "rl") -> Ancestry:
        """Incarnation, step, steps and what is to be replayed of one learner; to be read only."""
        return self._learners.get(name) or Ancestry()

    def count(self, stage: Stage) -> int:
        return sum(progress.stage is stage for progress in self.keys.values())

    def apply(self, record: Record) -> None:
        """Takes one record in; raises DataError, and changes nothing, where it does not fit."""
        match record:
            case Admitted():
                if record.key in self.keys:
                    raise DataError(f"{record.key} is admitted twice", "each key once")
                self.keys[record.key] = Progress(ADMITTED, record)
            case Trained():
                self._train(record)
            case Restored():
                self._restore(record)
            case Opened():
                self.opened.append(record)
            case _:
                now = self.keys.get(record.key)
                if now is None:
                    raise DataError(f"{type(record).__name__} for {record.key}", "a key that was admitted")
                self.keys[record.key] = advance(now, record)
                if type(record) in (Dropped, Failed):
                    for learner in self._learners.values():
                        learner.replay.pop(record.key, None)
                    if type(record) is Dropped:
                        self._dropped.append(record.key)

    def settle(self, learner: str, step: int) -> int:
        """Keeps nothing but the stage of dropped keys, and of those in the steps up to ``step`` of this learner.

        That is for a driver that will go back to no checkpoint before: a run without end would fill its memory else,
        a kilobyte a group. Returns how many keys they were. ``recall`` is the way back.
        """
        done, self._dropped = self._dropped + self.learner(learner).settle(step), []
        for key in done:
            self.keys[key] = SETTLED[self.keys[key].stage]
        return len(done)

    def recall(self, whole: "JournalState") -> None:
        """All details again, out of the same journal's state as read from disk."""
        for key, now in self.keys.items():
            if is_settled(now):
                self.keys[key] = whole.keys[key]
                if now.stage is DROPPED:
                    self._dropped.append(key)  # to be settled again
        for learner in self._learners.values():
            learner.settled = 0

    def _train(self, record: Trained) -> None:
        about = f"step ({record.incarnation}, {record.step}) of {record.learner}"
        learner = self.learner(record.learner)
        learner.check_step(record)
        for key in record.keys:
            now = self.keys.get(key)
            if now is None or now.stage is not JUDGED:
                where = "not admitted" if now is None else now.stage.name.lower()
                raise DataError(
                    f"{about} trains on {key}, which is {where}", "a judged group, once in the ancestry of a checkpoint"
                )
        if len(set(record.keys)) < len(record.keys):
            raise DataError(f"{about} names a group twice", "each group once")
        kept = tuple(self.keys[key].admitted.key for key in record.keys)  # the very strings: a copy would stay for ever
        learner.train(Trained(kept, record.incarnation, record.step, record.learner))
        self._learners[record.learner] = learner
        version = (record.incarnation, record.step)
        for key in record.keys:
            self._mark(key, version)

    def _restore(self, record: Restored) -> None:
        learner = self.learner(record.learner)
        lost, kept = learner.restore(record)
        self._learners[record.learner] = learner
        for key in lost:
            self._mark(key, None)
        for key, version in kept.items():
            if not is_settled(self.keys[key]):  # trained, and as far back as this: nothing has changed
                self._mark(key, version)

    def _mark(self, key: str, version: Version | None) -> None:
        now = self.keys[key]
        stage = JUDGED if version is None else TRAINED
        self.keys[key] = Progress(
            stage, now.admitted, now.asked, now.tries, now.worker, now.cause, now.answer, now.verdict, version
        )
