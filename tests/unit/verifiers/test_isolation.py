"""Verifiers that really hang, crash, bloat and flood, killed for real."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from residency.platform.errors import RoleError
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status
from residency.platform.verifiers.isolation import IsolatedJudge
from residency.platform.verifiers.judge_request import JudgeLimits, JudgeRequest
from residency.platform.verifiers.judging import judge as rules

ITEM = Item(
    id="i", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k", question="which?",
    options=("ct", "mr"), answer="mr", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
)  # fmt: skip
LIMITS = JudgeLimits(sample_seconds=1.0, memory_bytes=256 << 20, take_seconds=2.0)
HOSTILE = """
import ctypes, os, pathlib, subprocess, sys, time
from residency.platform.records import Status, Verdict

SLEEP = [sys.executable, "-c", "import time; time.sleep(3600)"]

def start(path, **options):
    pathlib.Path(path).write_text(str(subprocess.Popen(SLEEP, **options).pid))

def one(text):
    what, _, path = text.partition(" ")
    if what == "loop":
        while True: pass
    if what == "sleep": time.sleep(3600)
    if what == "segfault": ctypes.string_at(0)
    if what == "exit": os._exit(3)
    if what == "raise": raise ZeroDivisionError("one by zero")
    if what == "interrupt": raise KeyboardInterrupt
    if what == "bloat": return float(len(bytes(1 << 30)) > 0)
    if what == "flood":
        for _ in range(100):
            os.write(1, b"x" * (1 << 20)); os.write(2, b"x" * (1 << 20))
    if what == "scribble":
        for fd in range(3, 4096):  # the channel has the number that it had in the parent
            try: os.write(fd, b"x" * 100)
            except OSError: pass
    if what == "long-reason": raise ValueError("x" * (100 << 20))
    if what == "spawn-hang": start(path); time.sleep(3600)
    if what == "detach-hang": start(path, start_new_session=True); time.sleep(3600)
    if what == "detach-crash": start(path, start_new_session=True); os._exit(3)
    if what == "detach-leave": start(path, start_new_session=True)
    if what == "daemon-leave":
        if os.fork() == 0:
            os.setsid(); start(path); os._exit(0)
        os.wait()
    if what == "short-child": subprocess.run(SLEEP[:2] + ["pass"], check=True)
    if what == "once":
        mark = pathlib.Path(path)
        if not mark.exists():
            mark.touch(); os._exit(3)
    return 1.0

def judge(item, text, mode):
    if text.startswith("verdict "):
        return Verdict(trace_id="", status=Status.SCORED, score=0.5, evidence="x" * (100 << 20),
                       parts={"y" * int(text[8:]): 1.0}, verifier="mine", verifier_version="7")
    return one(text)

def batch(prompts, completions, **columns):
    return [one(text) for text in completions]
"""
OWN = RewardConfig(verifier="hostile_rules:judge")
BATCHED = RewardConfig(verifier="hostile_rules:batch", interface="trl")


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
    judge = IsolatedJudge(LIMITS)
    yield judge
    judge.close()


def test_the_rules_give_the_same_verdicts_behind_the_border() -> None:
    judge = IsolatedJudge()
    asked = requests("mr", "ct", "pet", "\u0000 \U0001f600 ü \ud800", "x" * (9 << 20), "(b) mr")
    verdicts = judge.judge(asked, RewardConfig())
    pid = judge.child_pid
    again = judge.judge(requests("mr") * 600, RewardConfig())
    judge.close()
    assert verdicts == [rules(each.item, each.trace_id, each.text, each.mode, RewardConfig()) for each in asked]
    assert [v.score for v in again] == [1.0] * 600
    assert pid is not None
    assert (judge.num_starts, judge.num_faults) == (1, 0)
    assert 0 < judge.longest_seconds < JudgeLimits().sample_seconds
    assert not alive(pid)
    assert judge.judge([], RewardConfig()) == []


FAULTS = [
    ("loop", Status.TIMEOUT, "within 1 s"),
    ("sleep", Status.TIMEOUT, "within 1 s"),
    ("segfault", Status.ERROR, "SIGSEGV"),
    ("exit", Status.ERROR, "exit code 3"),
    ("interrupt", Status.ERROR, "the judge died"),
    ("raise", Status.ERROR, "ZeroDivisionError: one by zero"),
    ("bloat", Status.ERROR, "MemoryError"),
    ("long-reason", Status.ERROR, "ValueError: xxx"),
]


@pytest.mark.parametrize(("text", "status", "reason"), FAULTS)
def test_a_fault_costs_its_own_sample_only(hostile: IsolatedJudge, text: str, status: Status, reason: str) -> None:
    verdicts = hostile.judge(requests("fine", "fine", text, "fine", "fine"), OWN)
    assert [v.trace_id for v in verdicts] == ["0", "1", "2", "3", "4"]
    assert [v.score for v in verdicts] == [1.0, 1.0, None, 1.0, 1.0]
    assert verdicts[2].status is status
    assert reason in verdicts[2].evidence
    assert len(verdicts[2].evidence) < 600
    assert (hostile.num_faults, hostile.child_pid is None or hostile.num_starts == 3) == (1, True)


@pytest.mark.parametrize(("text", "status"), [("loop", Status.TIMEOUT), ("segfault", Status.ERROR)])
def test_a_faulting_call_of_many_is_halved_until_the_sample_is_alone(
    hostile: IsolatedJudge, text: str, status: Status
) -> None:
    verdicts = hostile.judge(requests("fine", text, *["fine"] * 6), BATCHED)
    assert [v.score for v in verdicts] == [1.0, None, *[1.0] * 6]
    assert verdicts[1].status is status
    assert hostile.num_faults == 1


def test_two_faults_of_different_kinds_in_one_call_of_many(hostile: IsolatedJudge) -> None:
    verdicts = hostile.judge(requests("raise", "fine", "exit", "fine"), BATCHED)
    assert [v.score for v in verdicts] == [None, 1.0, None, 1.0]
    assert ["ZeroDivisionError" in verdicts[0].evidence, "exit code 3" in verdicts[2].evidence] == [True, True]


def test_samples_that_only_raise_are_tried_again_together(hostile: IsolatedJudge) -> None:
    verdicts = hostile.judge(requests(*["raise", "fine"] * 50), OWN)
    assert [v.score for v in verdicts] == [None, 1.0] * 50
    assert (hostile.num_faults, hostile.num_starts) == (50, 2)


@pytest.mark.parametrize("reward", [OWN, BATCHED])
def test_a_flood_of_output_harms_nobody(hostile: IsolatedJudge, reward: RewardConfig) -> None:
    assert [v.score for v in hostile.judge(requests("flood", "fine"), reward)] == [1.0, 1.0]


def test_a_verdict_of_100_megabytes_is_cut_or_refused(hostile: IsolatedJudge) -> None:
    hostile_limits = JudgeLimits(sample_seconds=5.0, memory_bytes=512 << 20)
    judge = IsolatedJudge(hostile_limits)
    cut, refused, fine = judge.judge(requests("verdict 3", f"verdict {50 << 20}", "fine"), OWN)
    judge.close()
    assert (cut.score, len(cut.evidence), cut.verifier, cut.verifier_version) == (0.5, 500, "mine", "7")
    assert (refused.status, refused.score) == (Status.ERROR, None)
    assert "characters" in refused.evidence
    assert fine.score == 1.0


def test_a_sample_that_writes_into_the_judges_channel_is_the_one_that_fails(hostile: IsolatedJudge) -> None:
    verdicts = hostile.judge(requests("fine", "scribble", "fine"), OWN)
    assert [v.score for v in verdicts] == [1.0, None, 1.0]
    assert verdicts[1].status is Status.ERROR


def test_a_passing_fault_is_forgiven(hostile: IsolatedJudge, tmp_path: Path) -> None:
    verdicts = hostile.judge(requests("fine", f"once {tmp_path / 'mark'}", "fine"), OWN)
    assert [v.score for v in verdicts] == [1.0, 1.0, 1.0]
    assert (hostile.num_faults, hostile.num_starts) == (0, 2)


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("spawn-hang", Status.TIMEOUT),
        ("detach-hang", Status.TIMEOUT),
        ("detach-crash", Status.ERROR),
        ("detach-leave", Status.ERROR),
        ("daemon-leave", Status.ERROR),
    ],
)
def test_a_process_left_behind_ends_and_costs_its_sample(
    hostile: IsolatedJudge, tmp_path: Path, what: str, status: Status
) -> None:
    verdicts = hostile.judge(requests("fine", f"{what} {tmp_path / 'pid'}", "fine"), OWN)
    assert [v.score for v in verdicts] == [1.0, None, 1.0]
    assert verdicts[1].status is status
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_child_that_ends_before_its_sample_does_no_harm(hostile: IsolatedJudge) -> None:
    assert [v.score for v in hostile.judge(requests("short-child", "fine"), OWN)] == [1.0, 1.0]
    assert hostile.num_starts == 1


def test_slow_samples_have_their_limit_each(hostile: IsolatedJudge, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "slow_rules.py").write_text("import time\ndef judge(item, text, mode):\n    time.sleep(0.3); return 1")
    verdicts = hostile.judge(requests(*["fine"] * 6), RewardConfig(verifier="slow_rules:judge"))
    assert [v.score for v in verdicts] == [1.0] * 6  # 1.8 s in all, the limit is 1 s
    assert 0.3 <= hostile.longest_seconds < 1


def test_a_process_that_dies_between_two_batches_is_replaced(hostile: IsolatedJudge) -> None:
    hostile.judge(requests("fine"), OWN)
    assert hostile.child_pid is not None
    os.kill(hostile.child_pid, 9)
    assert [v.score for v in hostile.judge(requests("fine", "fine"), OWN)] == [1.0, 1.0]
    assert (hostile.num_faults, hostile.num_starts) == (0, 2)


def test_a_process_that_is_stopped_between_two_batches_is_replaced_long_before_a_start_would_be_given_up(
    hostile: IsolatedJudge,
) -> None:
    hostile.judge(requests("fine"), OWN)
    assert hostile.child_pid is not None
    os.kill(hostile.child_pid, signal.SIGSTOP)
    began = time.monotonic()
    assert [v.score for v in hostile.judge(requests("fine", "fine"), OWN)] == [1.0, 1.0]
    assert time.monotonic() - began < LIMITS.start_seconds / 2
    assert (hostile.num_faults, hostile.num_starts) == (0, 2)


def test_another_verifier_gets_another_process(hostile: IsolatedJudge) -> None:
    assert [v.verifier for v in hostile.judge(requests("fine"), OWN)] == ["hostile_rules:judge"]
    first = hostile.child_pid
    assert [v.verifier for v in hostile.judge(requests("mr"), RewardConfig())] == ["rules/choice"]
    assert hostile.child_pid != first


@pytest.mark.parametrize(
    ("verifier", "named"), [("no_such_module:judge", "no_such_module"), ("hostile_rules:jugde", "jugde")]
)
def test_a_verifier_that_cannot_be_loaded_is_named(hostile: IsolatedJudge, verifier: str, named: str) -> None:
    with pytest.raises(RoleError, match=named):
        hostile.judge(requests("mr"), RewardConfig(verifier=verifier))


def test_an_import_that_says_much_can_still_be_loaded(hostile: IsolatedJudge, tmp_path: Path) -> None:
    (tmp_path / "loud_rules.py").write_text(
        "import sys\nsys.stderr.write('x' * (1 << 22))\ndef judge(item, text, mode):\n    return 1.0\n"
    )
    (verdict,) = hostile.judge(requests("fine"), RewardConfig(verifier="loud_rules:judge"))
    assert verdict.score == 1.0


def test_a_hanging_judge_does_not_outlive_its_owner(tmp_path: Path) -> None:
    (tmp_path / "hostile_rules.py").write_text(HOSTILE)
    owner_code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "from residency.platform.verifiers.judge_process import JudgeProcess\n"
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
