"""Work that is asked once: keyed requests whose whole life is in the journal.

    queue = WorkQueue(journal)
    queue.admit({"rl-3/a": "…", "rl-3/b": "…"})
    for key in await queue.request(queue.waiting("rl-3/"), "generator-0"):    # on disk before anybody is asked
        …
    await queue.answer([Answered("rl-3/a", "generator-0", refs)])             # traces are written before this
    await queue.give_back(["rl-3/b"], "generator-0 died: out of memory", spent=True)

A request is asked again only where it was in flight and its answer did not come: when its worker or the driver died.
The first answer of a key counts, whoever gives it; later ones are ignored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from residency.platform.errors import DataError
from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Admitted, Answered, Failed, Released, Requested, TakenUp
from residency.platform.journal.state import Progress, Stage, is_settled
from residency.platform.redaction import redact

TRIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A request that was given up: ``tries`` of them counted against its limit; the cause holds no secrets."""

    key: str
    cause: str
    tries: int
    request: str


class WorkQueue:
    """The one queue of a journal's driver, used from one loop. Keys in flight when the last driver died wait again.

    ``tries`` is how often a worker may fail on a key before it is a dead letter; a driver's death or a worker that left
    in good order does not count.
    """

    def __init__(self, journal: Journal, tries: int = TRIES) -> None:
        self._journal, self._tries = journal, tries
        self._keys = journal.state.keys
        lost = [key for key, progress in self._keys.items() if progress.stage is Stage.REQUESTED]
        if lost:
            before = journal.state.opened[-2]
            cause = f"the driver (process {before.pid} on {before.host}) ended while it was in flight"
            journal.append(*(Released(key, cause, spent=False) for key in lost))
            journal.commit()

    def admit(self, requests: Mapping[str, str]) -> list[str]:
        """Takes new work in, and returns its keys; known keys are left as they are. On disk with the next request.

        Raises DataError where a known key comes with another request: its answer would be one to something else.
        """
        new = [key for key in requests if key not in self._keys]
        for key in requests.keys() - set(new):
            now = self._keys[key]
            if now.admitted.request != requests[key] and not is_settled(now):
                raise DataError(
                    f"{key} is asked as {requests[key][:80]!r} and was admitted as {now.admitted.request[:80]!r}",
                    "the same request for the same key",
                    "start a new run, or undo what was changed since this one was started",
                )
        self._journal.append(*(Admitted(key, requests[key]) for key in new))
        return new

    def waiting(self, prefix: str = "") -> list[str]:
        """Keys to be asked, in the order of their admission."""
        return [key for key in self._keys if key.startswith(prefix) and self._stage(key) is Stage.ADMITTED]

    def in_flight(self, prefix: str = "") -> list[str]:
        """Keys that a worker has been asked and that have no answer yet."""
        return [key for key in self._keys if key.startswith(prefix) and self._stage(key) is Stage.REQUESTED]

    async def request(self, keys: Iterable[str], worker: str) -> list[str]:
        """Notes that ``worker`` is going to be asked, and returns the keys that it is to be asked: on disk by then.

        A key still in flight is taken from its lost worker, which costs a try; asking a worker again that could not be
        reached costs none. Left out are keys that were answered meanwhile, and those whose tries are spent by that:
        they are dead letters now. Raises DataError for a key that was not admitted.
        """
        asked: list[str] = []
        for key in dict.fromkeys(keys):
            progress = self._progress(key)
            if progress.stage is Stage.REQUESTED:
                lost = progress.worker != worker
                cause = f"{progress.worker} was lost before it answered, and {worker} is asked instead"
                progress = self._release(key, progress, cause if lost else f"{worker} was not reached", spent=lost)
            if progress.stage is Stage.ADMITTED:
                self._journal.append(Requested(key, worker, progress.asked + 1))
                asked.append(key)
        await self._journal.durable()
        return asked

    async def answer(self, answers: Sequence[Answered]) -> list[str]:
        """Takes answers in, and returns the keys whose first one this is: on disk by then.

        A late answer of a worker that was given up counts where no other came first; that of a dead letter does not.
        Raises DataError for a key that was not admitted.
        """
        counted: dict[str, Answered] = {}
        for answer in answers:
            if self._progress(answer.key).stage <= Stage.REQUESTED:
                counted.setdefault(answer.key, answer)
        # also where none counts: whoever came second must not go on before the first is on disk
        await self._journal.durable(*counted.values())
        return list(counted)

    async def give_back(self, keys: Iterable[str], cause: str, spent: bool) -> list[str]:
        """Ends requests without an answer, and returns the keys that failed for good, after their last try.

        ``spent``: the attempt counts (the worker failed on it), or not (it left, or was never started). Keys that are
        not in flight any more are left as they are.
        """
        failed: list[str] = []
        for key in dict.fromkeys(keys):
            progress = self._progress(key)
            if progress.stage is Stage.REQUESTED:
                after = self._release(key, progress, cause, spent)
                failed += [key] if after.stage is Stage.FAILED else []
        await self._journal.durable()
        return failed

    def dead_letters(self, prefix: str = "") -> list[DeadLetter]:
        """Requests that failed for good, in the order of their admission."""
        return [
            DeadLetter(key=key, cause=now.cause, tries=now.tries, request=now.admitted.request)
            for key, now in self._keys.items()
            if now.stage is Stage.FAILED and key.startswith(prefix)
        ]

    async def take_up(self, keys: Iterable[str]) -> list[str]:
        """Dead letters wait again with all their tries; returns those of ``keys`` that were dead letters."""
        taken = [key for key in dict.fromkeys(keys) if self._progress(key).stage is Stage.FAILED]
        self._journal.append(*(TakenUp(key) for key in taken))
        await self._journal.durable()
        return taken

    def _release(self, key: str, progress: Progress, cause: str, spent: bool) -> Progress:
        """Back to the waiting ones, or to the dead letters after the last try."""
        if spent and progress.tries + 1 >= self._tries:
            self._journal.append(Failed(key, redact(cause)))
        else:
            self._journal.append(Released(key, redact(cause), spent))
        return self._keys[key]

    def _progress(self, key: str) -> Progress:
        progress = self._keys.get(key)
        if progress is None:
            raise DataError(f"{key} is unknown", "a key that was admitted", "admit it first")
        return progress

    def _stage(self, key: str) -> Stage:
        return self._keys[key].stage
