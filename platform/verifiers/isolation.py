"""Judging in a process that can be killed: a sample that hangs, crashes or bloats costs itself a verdict, nobody else.

The judge says where it is, so the faulting sample is known without a search; only where a user's function takes many
samples in one call (TRL) is a faulting call halved until the sample is alone. A faulting sample is tried once more in
a fresh process, and then gets ``error`` or ``timeout`` without a score.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from residency.platform.recipe import RewardConfig
from residency.platform.records import Verdict
from residency.platform.verifiers.judge_process import JudgeProcess
from residency.platform.verifiers.judge_request import BATCH_INTERFACES, Fault, JudgeLimits, JudgeRequest

CHUNK = 256  # samples sent at once
CALL = 64  # samples that a function of TRL's form gets in one call
CHUNK_CHARACTERS = 8 << 20  # and what they may hold together, but for a single one that is longer
TRIES = 2


def chunks(requests: Sequence[JudgeRequest], size: int) -> Iterator[range]:
    """The batch in stretches of at most ``size`` samples and ``CHUNK_CHARACTERS``."""
    first = characters = 0
    for i, request in enumerate(requests):
        if i > first and (i - first == size or characters + len(request.text) > CHUNK_CHARACTERS):
            yield range(first, i)
            first, characters = i, 0
        characters += len(request.text)
    if first < len(requests):
        yield range(first, len(requests))


class IsolatedJudge:
    """Verdicts for batches of any size, from one child process that is replaced when a sample breaks it."""

    def __init__(self, limits: JudgeLimits | None = None) -> None:
        self._limits = limits or JudgeLimits()
        self._process: JudgeProcess | None = None
        self._verifier: str | None = None  # that the process has loaded
        self.num_starts = 0
        self.num_faults = 0
        self.longest_seconds = 0.0  # of all calls that came back

    @property
    def child_pid(self) -> int | None:
        return self._process.pid if self._process else None

    def judge(self, requests: Sequence[JudgeRequest], reward: RewardConfig) -> list[Verdict]:
        """One verdict a request, in order, by the verifier that ``reward`` names (our own rules where it names none).

        Raises RoleError where no child process can be started, or the verifier not be loaded.
        """
        verdicts: dict[int, Verdict] = {}
        tries = [0] * len(requests)
        size = CALL if reward.interface in BATCH_INTERFACES else CHUNK
        work: deque[Sequence[int]] = deque(chunks(requests, size))
        while work:
            rows = work.popleft()
            process = self._ready_process(reward)
            version = process.version
            replies, broken = process.judge([requests[row] for row in rows], reward)
            self.longest_seconds = max(self.longest_seconds, process.longest_seconds)
            faults = {row: reply for row, reply in zip(rows, replies, strict=False) if isinstance(reply, Fault)}
            verdicts |= {row: reply for row, reply in zip(rows, replies, strict=False) if isinstance(reply, Verdict)}
            waiting: list[Sequence[int]] = []
            if broken is not None:
                after = broken.first + broken.width
                call, half = rows[broken.first : after], broken.width // 2
                if broken.width > 1:
                    waiting += [call[:half], call[half:]]
                else:
                    faults[call[0]] = broken.fault
                waiting += [rows[len(replies) : broken.first], rows[after:]]
            if faults or broken:
                self.close()
            for row, fault in faults.items():
                tries[row] += 1
                if tries[row] == TRIES:
                    self.num_faults += 1
                    verdicts[row] = given_up(requests[row], reward, fault, version)
            suspects = [row for row in faults if row not in verdicts]
            # One that broke its process is tried alone; those that only raised are tried again together.
            alone = [[row] for row in suspects if broken is not None and row == rows[broken.first]]
            together = [row for row in suspects if [row] not in alone]
            work.extendleft(part for part in (*waiting, together, *alone) if part)
        return [verdicts[row] for row in range(len(requests))]

    def _ready_process(self, reward: RewardConfig) -> JudgeProcess:
        if self._process is not None and self._verifier != reward.verifier:
            self.close()
        if self._process is None:
            self._process = JudgeProcess(reward.verifier, self._limits)
            self._verifier = reward.verifier
            self.num_starts += 1
        return self._process

    def close(self) -> None:
        """Kill the child; the next batch starts a fresh one."""
        if self._process is not None:
            self._process.kill()
            self._process = None


def given_up(request: JudgeRequest, reward: RewardConfig, fault: Fault, version: str) -> Verdict:
    """The verdict of a sample that failed twice: our failure, so no score."""
    return Verdict(
        trace_id=request.trace_id,
        status=fault.status,
        score=None,
        evidence=f"failed twice, the second time: {fault.reason}",
        verifier=reward.verifier or f"rules/{request.item.answer_kind.value}",
        verifier_version=version,
    )
