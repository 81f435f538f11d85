"""Why a worker died, in words: exit code, signal, memory, node, and its last log lines, read where it ran."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.platform.cluster import wait_for
from residency.platform.errors import RoleError
from residency.platform.redaction import redact

EVIDENCE_SECONDS = 10.0
NUM_LOG_LINES = 5
TAIL_BYTES = 64 * 1024
LONGEST_LINE = 300
OOM_COUNTERS = (
    Path("/proc/vmstat"),
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
)

_RAY_MARK = re.compile(r"^:(job_id|actor_name|task_name):")
_RAY_FRAME = re.compile(r'File ".*/ray/(_private|util/tracing|_raylet)|^Extension modules:')
_CRASH = re.compile(r"\*\*\* (SIG[A-Z]+) received")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXIT_CODE = re.compile(r"exit code (-?\d+)")
_MEMORY = re.compile(r"was ([\d.]+ ?[KMGT]?B) used / ([\d.]+ ?[KMGT]?B) limit")


@dataclass(frozen=True, kw_only=True, slots=True)
class Birth:
    """Where an actor's process is; asked of it once it is up. ``oom_kills`` is the node's count at that moment."""

    pid: int
    node_id: str
    oom_kills: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What lies on the node after a death: last log lines, the signal in Ray's crash report, the kernel's count."""

    log_lines: tuple[str, ...]
    crash_signal: str | None
    oom_kills: int


def birth_of(actor: Any) -> Birth:
    """Runs in the actor: ``handle.__ray_call__.remote(birth_of)``, for an actor of any class."""
    import ray

    return Birth(pid=os.getpid(), node_id=ray.get_runtime_context().get_node_id(), oom_kills=count_oom_kills())


async def cause_of(birth: Birth | None, error: BaseException) -> str:
    """Why the worker is lost, in words, without secrets; takes at most ``EVIDENCE_SECONDS`` and does not raise.

    ``birth`` is None where it died before it could say where it is: then the message itself is asked.
    """
    from ray.exceptions import RayError

    message = message_of(error)
    if birth is None:
        birth = birth_from(message)
    if birth is None:
        return redact(in_words(message, None, None))
    where = f"pid {birth.pid} on node {birth.node_id[:8]}"
    try:
        evidence = await gather_evidence(birth)
    except RoleError:  # late
        words = f"{in_words(message, None, None)} ({where}; its node did not hand over the log)"
    except RayError:
        words = f"{in_words(message, None, None)} ({where}; its node is gone, and the log with it)"
    else:
        words = f"{in_words(message, evidence, birth.oom_kills)} ({where})"
        if evidence.log_lines:
            words += "; its last log lines: " + " | ".join(evidence.log_lines)
    return redact(words)


def message_of(error: BaseException) -> str:
    """Ray's own message of a death, which a RoleError of ``cluster.wait_for`` shortens; any other error's own."""
    from ray.exceptions import RayError, RayTaskError

    seen = error.__cause__
    return str(seen if isinstance(seen, RayError) and not isinstance(seen, RayTaskError) else error)


def birth_from(message: str) -> Birth | None:
    """Pid and node out of the message of a death in ``__init__``; None where there is none or the node is not known."""
    import ray

    pid, address = re.search(r"pid[:=] ?(\d+)", message), re.search(r"ip[:=] ?([\w.:]+)", message)
    if pid is None or address is None:
        return None
    for node in ray.nodes():
        if node["NodeManagerAddress"] == address[1] and node["Alive"]:
            return Birth(pid=int(pid[1]), node_id=node["NodeID"], oom_kills=-1)
    return None


async def gather_evidence(birth: Birth) -> Evidence:
    """Reads on the worker's own node; RayError where that is gone, DeadlineError where it is late."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(read_evidence).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(birth.node_id, soft=False)
    )
    return await wait_for(task.remote(birth.pid), f"node {birth.node_id[:8]}", "reading a log", EVIDENCE_SECONDS)


def read_evidence(pid: int) -> Evidence:
    """Runs in a task on the node where that process was."""
    import ray._private.worker as ray_worker

    node = ray_worker._global_node
    assert node is not None, "a Ray worker knows its node"
    logs = Path(node.get_logs_dir_path())
    out, err, core = (
        [line for path in logs.glob(pattern) for line in tail(path)]
        for pattern in (f"worker-*-{pid}.out", f"worker-*-{pid}.err", f"python-core-worker-*_{pid}.log")
    )
    crash = next((match[1] for line in reversed(core) if (match := _CRASH.search(line))), None)
    return Evidence(last_lines(out, err), crash, count_oom_kills())


def tail(path: Path) -> list[str]:
    """The last lines of a log that may be huge."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - TAIL_BYTES, 0))
        return file.read().decode(errors="replace").splitlines()


def last_lines(out: Sequence[str], err: Sequence[str]) -> tuple[str, ...]:
    """The last few that say something: of standard output at least two, so that a traceback does not hide them."""
    out, err = telling(out), telling(err)
    out = out[-max(NUM_LOG_LINES - len(err), 2) :]
    return (*out, *err[-(NUM_LOG_LINES - len(out)) :])


def telling(lines: Sequence[str]) -> list[str]:
    """Without colours, empty lines, Ray's marks and its own frames."""
    plain = (_COLOUR.sub("", line).strip() for line in lines)
    return [line[:LONGEST_LINE] for line in plain if line and not _RAY_MARK.match(line) and not _RAY_FRAME.search(line)]


def count_oom_kills(counters: Sequence[Path] = OOM_COUNTERS) -> int:
    """Processes that the kernel killed for lack of memory, on this node and in this process's control group."""
    texts = [counter.read_text() for counter in counters if counter.is_file()]
    return sum(int(found[1]) for text in texts if (found := re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)))


def in_words(message: str, evidence: Evidence | None, oom_kills_before: int | None) -> str:
    """The cause that Ray's message and the evidence give; the message's own first line where neither is understood."""
    message = _COLOUR.sub("", message)
    if "running low on memory" in message or "OOM kill reason" in message:
        used = _MEMORY.search(message)
        amount = f": {used[1]} of {used[2]} used" if used else ""
        return f"ended by Ray's memory monitor, because its node ran out of memory{amount}"
    if "raised in its creation task" in message:
        return f"could not start: {[line for line in message.splitlines() if line.strip()][-1].strip()}"
    if "killed by `ray.kill`" in message:
        return "ended by ray.kill"
    if "exit_actor() is called" in message:
        return "ended itself (exit_actor)"
    if "preempted" in message:
        return "its node was preempted"
    if "node has died" in message or "Node was" in message:
        return "its node was lost"
    if "not schedulable" in message:
        return "the node that it was meant for does not exist"
    if "is unavailable" in message:
        return "its node or its network does not answer"
    if "owner has died" in message:
        return "the process that started it has died"
    if exited := _EXIT_CODE.search(message):
        return "terminated by SIGTERM" if "SIGTERM" in message else f"ended with exit code {exited[1]}"
    if "End of file" in message:
        return sudden_end(evidence, oom_kills_before)
    return (message.strip().splitlines() or ["for no reason that was told"])[0]


def sudden_end(evidence: Evidence | None, oom_kills_before: int | None) -> str:
    """The process was there and then it was not: only what it left behind tells why."""
    if evidence is None:
        return "ended without a word, by a signal or by os._exit"
    if evidence.crash_signal:
        return f"crashed with {evidence.crash_signal}"
    if oom_kills_before is not None and evidence.oom_kills > oom_kills_before >= 0:
        return "killed with SIGKILL by the kernel, because memory ran out (its oom_kill count rose)"
    return "killed with SIGKILL (or left by os._exit: it wrote no crash report)"
