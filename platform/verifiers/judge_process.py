"""One judge in a process of its own: asked for a batch, watched sample by sample, killed with all that it started."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from residency.platform.errors import RoleError
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Status
from residency.platform.verifiers.channel import Channel
from residency.platform.verifiers.descendants import MARK, end_descendants, end_marked, stop
from residency.platform.verifiers.judge_request import (
    BATCH_INTERFACES,
    Fault,
    JudgeLimits,
    JudgeRequest,
    Reply,
    pack_requests,
    unpack_replies,
)
from residency.platform.verifiers.progress import ProgressPage

MAX_REPLY_BYTES = 4 << 20
SHOWN_BYTES = 65536


class Broken(NamedTuple):
    """The call that ended or voided the judge: its first sample in the batch, how many it was for, and why."""

    first: int
    width: int
    fault: Fault


class Outcome(NamedTuple):
    """Replies for the first samples of a batch, in order; ``broken`` is None where they are for all of them."""

    replies: list[Reply]
    broken: Broken | None


class JudgeProcess:
    """One child in a session of its own; raises RoleError where it cannot be started."""

    def __init__(self, verifier: str | None, limits: JudgeLimits) -> None:
        self._limits = limits
        self._page = ProgressPage()
        self._mark = uuid.uuid4().hex
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; a pipe could fill up
        ours, theirs = socket.socketpair()
        arguments = (verifier or "", limits.sample_seconds, limits.memory_bytes, os.getpid())
        # The interpreter of the caller, on the caller's path (a Ray worker's differs from a fresh interpreter's).
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "residency.platform.verifiers.judge_child"]
            + [str(argument) for argument in (theirs.fileno(), self._page.fd, *arguments)],
            pass_fds=(theirs.fileno(), self._page.fd),
            env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", MARK: self._mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )
        theirs.close()
        self._channel = Channel(ours, MAX_REPLY_BYTES)
        self._known: frozenset[AnswerKind] = frozenset()  # whose libraries it has loaded
        try:
            self.version = self._channel.receive(limits.start_seconds).decode(errors="replace")[:100]
        except (EOFError, TimeoutError) as error:
            raise self._unfit("starting", error) from error

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def longest_seconds(self) -> float:
        """The longest call that came back (seconds)."""
        return self._page.longest_seconds

    def judge(self, requests: Sequence[JudgeRequest], reward: RewardConfig) -> Outcome:
        """Replies in order, up to the call that hangs or ends the judge; raises RoleError for one that never began."""
        width = len(requests) if reward.interface in BATCH_INTERFACES else 1
        replies: list[Reply] = []
        self._page.place = 0
        kinds = frozenset(request.item.answer_kind for request in requests)
        seconds = self._limits.take_seconds if kinds <= self._known else self._limits.start_seconds
        try:
            self._channel.send(pack_requests(requests, reward), seconds)
            self._channel.receive(seconds)
        except (EOFError, TimeoutError) as error:
            if not self._known:
                raise self._unfit("taking a batch", error) from error
            # What an earlier sample left behind broke it, or it was stopped: a fresh process may do better.
            return Outcome(replies, Broken(0, width, self._why_ended(error)))
        self._known |= kinds
        trace_ids = [request.trace_id for request in requests]
        while len(replies) < len(requests):
            try:
                block = unpack_replies(self._next_frame(), trace_ids[len(replies) :])
            except TimeoutError:
                fault = Fault(Status.TIMEOUT, f"no verdict within {self._limits.sample_seconds:g} s")
            except EOFError as error:
                fault = self._why_ended(error)
            except ValueError as error:
                fault = Fault(Status.ERROR, str(error))
            else:
                if width > len(block):  # a single fault for the call of many
                    only = block[0]
                    fault = only if isinstance(only, Fault) else Fault(Status.ERROR, "fewer replies than samples")
                else:
                    replies += block
                    continue
            first = min(max(self._page.place, len(replies)), len(requests) - 1)
            return Outcome(replies, Broken(first, width, fault))
        return Outcome(replies, None)

    def _next_frame(self) -> bytes:
        """The next block of replies; raises TimeoutError once one call is over its limit, however many came before."""
        limit = self._limits.sample_seconds
        look = min(limit / 10, 0.5)
        place, since = self._page.place, time.monotonic()
        while True:
            try:
                return self._channel.receive(look)
            except TimeoutError:
                if (now_at := self._page.place) != place:
                    place, since = now_at, time.monotonic()
                elif time.monotonic() - since >= limit:
                    raise

    def _why_ended(self, error: Exception) -> Fault:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Fault(Status.ERROR, f"the judge does not answer: {error}")
        if code == -signal.SIGXCPU:
            return Fault(Status.TIMEOUT, f"more CPU time than {self._limits.sample_seconds:g} s on every core")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Fault(Status.ERROR, f"the judge died: {name}")

    def _unfit(self, stage: str, error: Exception) -> RoleError:
        self._end()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - SHOWN_BYTES))
        said = self._errors.read().decode(errors="replace").strip()
        self.kill()
        return RoleError(
            f"the verifier's process failed while {stage}: {said.splitlines()[-1] if said else error}",
            f"ready within {self._limits.start_seconds:g} s",
        )

    def kill(self) -> None:
        """Kill the child and whatever it started, in its session or out of it."""
        self._end()
        self._channel.close()
        self._page.close()
        self._errors.close()

    def _end(self) -> None:
        if self._process.poll() is None:
            stop(self.pid)
            end_descendants(self.pid)
        else:
            end_marked(self._mark)
        with suppress(ProcessLookupError):  # it has already ended, and nothing is left in its group
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
