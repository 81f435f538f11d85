"""Verifiers that really hang, crash, bloat and flood, killed for real."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from residency.platform.errors import RoleError
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status
from residency.platform.verifiers.isolation import IsolatedJudge
from residency.platform.verifiers.judge_request import JudgeLimits, JudgeRequest

ITEM = Item(
    id="i", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k", question="which?",
    options=("ct", "mr"), answer="mr", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
)  # fmt: skip
LIMITS = JudgeLimits(sample_seconds=1.0, memory_bytes=256 << 20)
HOSTILE = """
import ctypes, os, pathlib, subprocess, sys, time
from residency.platform.verifiers import judging

def judge(item, trace_id, text, mode, reward):
    if text == "loop":
        while True: pass
    if text == "sleep": time.sleep(3600)
    if text == "segfault": ctypes.string_at(0)
    if text == "exit": os._exit(3)
    if text == "raise": raise ZeroDivisionError("one by zero")
    if text == "interrupt": raise KeyboardInterrupt
    if text == "bloat": return bytes(1 << 30)
    if text == "flood":
        for _ in range(100):
            os.write(1, b"x" * (1 << 20)); os.write(2, b"x" * (1 << 20))
    if text.startswith("spawn "):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        pathlib.Path(text[6:]).write_text(str(child.pid))
        time.sleep(3600)
    if text.startswith("once "):
        mark = pathlib.Path(text[5:])
        if not mark.exists():
            mark.touch(); os._exit(3)
    return judging.judge(item, trace_id, "mr", mode, reward)
"""


def requests(*texts: str) -> list[JudgeRequest]:
    return [JudgeRequest(item=ITEM, trace_id=str(n), text=text, mode=PromptMode.DIRECT) for n, text in enumerate(texts)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IsolatedJudge]:
    (tmp_path / "hostile_rules.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    judge = IsolatedJudge("hostile_rules:judge", LIMITS)
    yield judge
    judge.close()


def test_the_rules_give_the_same_verdicts_behind_the_border() -> None:
    judge = IsolatedJudge()
    verdicts = judge.judge(requests("mr", "ct", "pet", "\u0000 \U0001f600 ü"), RewardConfig())
    pid = judge.child_pid
    again = judge.judge(requests("mr") * 600, RewardConfig())
    assert [(v.trace_id, v.score, v.status) for v in verdicts] == [
        ("0", 1.0, Status.SCORED), ("1", 0.1, Status.SCORED), ("2", 0.1, Status.ABSTAINED), ("3", 0.1, Status.ABSTAINED)
    ]  # fmt: skip
    assert [v.score for v in again] == [1.0] * 600
    assert pid is not None
    assert (judge.child_pid, judge.num_starts) == (pid, 1)
    judge.close()
    assert not alive(pid)
    assert judge.judge([], RewardConfig()) == []


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("loop", Status.TIMEOUT, "within 1 s"),
        ("sleep", Status.TIMEOUT, "within 1 s"),
        ("segfault", Status.ERROR, "SIGSEGV"),
        ("exit", Status.ERROR, "exit code 3"),
        ("interrupt", Status.ERROR, "the judge died"),
        ("raise", Status.ERROR, "ZeroDivisionError: one by zero"),
        ("bloat", Status.ERROR, "MemoryError"),
    ],
)
def test_a_fault_costs_its_own_sample_only(hostile: IsolatedJudge, text: str, status: Status, reason: str) -> None:
    verdicts = hostile.judge(requests("fine", "fine", text, "fine", "fine"), RewardConfig())
    assert [v.trace_id for v in verdicts] == ["0", "1", "2", "3", "4"]
    assert [v.score for v in verdicts] == [1.0, 1.0, None, 1.0, 1.0]
    assert verdicts[2].status is status
    assert reason in verdicts[2].evidence
    assert (hostile.num_faults, hostile.num_starts) == (1, 3)  # the first, the second try, and the rest


def test_a_flood_of_output_harms_nobody(hostile: IsolatedJudge) -> None:
    assert [v.score for v in hostile.judge(requests("flood", "fine"), RewardConfig())] == [1.0, 1.0]


def test_a_passing_fault_is_forgiven(hostile: IsolatedJudge, tmp_path: Path) -> None:
    verdicts = hostile.judge(requests("fine", f"once {tmp_path / 'mark'}", "fine"), RewardConfig())
    assert [v.score for v in verdicts] == [1.0, 1.0, 1.0]
    assert (hostile.num_faults, hostile.num_starts) == (0, 2)


def test_what_a_sample_has_started_ends_with_it(hostile: IsolatedJudge, tmp_path: Path) -> None:
    (verdict,) = hostile.judge(requests(f"spawn {tmp_path / 'pid'}"), RewardConfig())
    assert verdict.status is Status.TIMEOUT
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_process_that_dies_between_two_batches_is_replaced(hostile: IsolatedJudge) -> None:
    hostile.judge(requests("fine"), RewardConfig())
    assert hostile.child_pid is not None
    os.kill(hostile.child_pid, 9)
    assert [v.score for v in hostile.judge(requests("fine", "fine"), RewardConfig())] == [1.0, 1.0]
    assert (hostile.num_faults, hostile.num_starts) == (0, 2)


def test_a_verifier_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(RoleError, match="no_such_module"):
        IsolatedJudge("no_such_module:judge", LIMITS).judge(requests("mr"), RewardConfig())


def test_a_hanging_judge_does_not_outlive_its_owner(tmp_path: Path) -> None:
    (tmp_path / "hostile_rules.py").write_text(HOSTILE)
    owner_code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "from residency.platform.verifiers.isolation import JudgeProcess\n"
        "from residency.platform.verifiers.judge_request import JudgeLimits\n"
        "import time; print(JudgeProcess('hostile_rules:judge', JudgeLimits()).pid, flush=True); time.sleep(3600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", owner_code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        assert alive(child)
        os.kill(owner.pid, 9)
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child)
