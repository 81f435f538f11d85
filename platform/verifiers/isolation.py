"""Judging in a process that can be killed: a sample that hangs, crashes or bloats costs itself a verdict, nobody else.

The child answers sample by sample, so the faulting one is known without a search. It is tried once more in a fresh
process, and then gets ``error`` or ``timeout`` without a score; the samples after it go on.
"""

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from residency.platform.errors import RoleError
from residency.platform.recipe import RewardConfig
from residency.platform.records import Status, Verdict
from residency.platform.verifiers.channel import Channel
from residency.platform.verifiers.judge_request import JudgeLimits, JudgeRequest, unpack_reply
from residency.platform.verifiers.rules import VERIFIER_VERSION

RULES = "residency.platform.verifiers.judging:judge"
CHUNK = 256  # samples sent at once


class SampleFaultError(Exception):
    """The sample in progress ended its judge; carries the status and the reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason


class JudgeProcess:
    """One child process in a session of its own, so that whatever a verifier starts can be killed with it."""

    def __init__(self, function: str, limits: JudgeLimits) -> None:
        self._limits = limits
        ours, theirs = socket.socketpair()
        arguments = (theirs.fileno(), function, limits.sample_seconds, limits.memory_bytes, os.getpid())
        # The interpreter of the caller, on the caller's path (a Ray worker's differs from a fresh interpreter's).
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "residency.platform.verifiers.judge_child", *map(str, arguments)],
            pass_fds=(theirs.fileno(),),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        theirs.close()
        self._channel = Channel(ours)
        self._used = False
        self._expect_ready("starting")

    @property
    def pid(self) -> int:
        return self._process.pid

    def _expect_ready(self, stage: str) -> None:
        try:
            self._channel.receive(self._limits.start_seconds)
        except (EOFError, TimeoutError) as error:
            if self._used:  # what an earlier sample left behind broke it: a fresh process may do better
                raise self._died() from error
            self._kill_group()
            assert self._process.stderr is not None
            said = self._process.stderr.read(65536).decode(errors="replace").strip()
            self.kill()
            raise RoleError(
                f"the verifier's process failed while {stage}: {said.splitlines()[-1] if said else error}",
                f"ready within {self._limits.start_seconds:g} s",
            ) from error

    def judge(self, requests: Sequence[JudgeRequest], reward: RewardConfig, verdicts: list[Verdict]) -> None:
        """Append the verdicts in order; raises SampleFaultError for the first sample that ends or voids its judge."""
        try:
            self._channel.send(pickle.dumps((list(requests), reward)), self._limits.start_seconds)
        except EOFError as error:
            raise self._died() from error
        self._expect_ready("taking a batch")
        self._used = True
        for request in requests:
            try:
                reply = unpack_reply(self._channel.receive(self._limits.sample_seconds), request.trace_id)
            except TimeoutError as error:
                raise SampleFaultError(
                    Status.TIMEOUT, f"no verdict within {self._limits.sample_seconds:g} s"
                ) from error
            except EOFError as error:
                raise self._died() from error
            if isinstance(reply, str):
                raise SampleFaultError(Status.ERROR, reply)
            verdicts.append(reply)

    def _died(self) -> SampleFaultError:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return SampleFaultError(Status.ERROR, "the judge closed its channel")
        if code == -signal.SIGXCPU:
            return SampleFaultError(Status.TIMEOUT, f"more CPU time than {self._limits.sample_seconds:g} s")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return SampleFaultError(Status.ERROR, f"the judge died: {name}")

    def kill(self) -> None:
        """Kill the child and whatever it started in its session; safe to repeat."""
        self._kill_group()
        self._process.wait()
        self._channel.close()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):  # it has already ended, and nothing is left in its group
            os.killpg(self._process.pid, signal.SIGKILL)


class IsolatedJudge:
    """Verdicts for batches of any size, from one child process that is replaced when a sample breaks it."""

    def __init__(self, function: str = RULES, limits: JudgeLimits | None = None) -> None:
        """``function`` is ``module:name`` of a function with the signature of ``judging.judge``."""
        self._function = function
        self._limits = limits or JudgeLimits()
        self._process: JudgeProcess | None = None
        self.num_starts = 0
        self.num_faults = 0

    @property
    def child_pid(self) -> int | None:
        return self._process.pid if self._process else None

    def judge(self, requests: Sequence[JudgeRequest], reward: RewardConfig) -> list[Verdict]:
        """One verdict a request, in order. Raises RoleError where no child process can be started."""
        verdicts: list[Verdict] = []
        suspect = -1  # the sample that has already broken one process
        while (position := len(verdicts)) < len(requests):
            # A suspect is tried alone: its second fault must not cost the others another start.
            size = 1 if position == suspect else CHUNK
            try:
                self._ready_process().judge(requests[position : position + size], reward, verdicts)
            except SampleFaultError as fault:
                self.close()
                position = len(verdicts)
                if position != suspect:
                    suspect = position
                    continue
                self.num_faults += 1
                kind = requests[position].item.answer_kind.value
                verdicts.append(
                    Verdict(
                        trace_id=requests[position].trace_id,
                        status=fault.status,
                        score=None,
                        evidence=f"failed twice, the second time: {fault.reason}",
                        verifier=f"rules/{kind}" if self._function == RULES else self._function,
                        verifier_version=VERIFIER_VERSION,
                    )
                )
        return verdicts

    def _ready_process(self) -> JudgeProcess:
        if self._process is None:
            self._process = JudgeProcess(self._function, self._limits)
            self.num_starts += 1
        return self._process

    def close(self) -> None:
        """Kill the child; the next batch starts a fresh one."""
        if self._process is not None:
            self._process.kill()
            self._process = None
