"""Causes in words: from the messages that Ray 2.60 gave when workers were really killed."""

from pathlib import Path

import pytest

from residency.platform.causes import Evidence, count_oom_kills, in_words, last_lines, tail

DIED = "The actor died unexpectedly before finishing this task.\n\tclass_name: A\n\tpid: 12959\n\tip: 192.0.2.2\n"
WORKER = (
    DIED + "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
)
END_OF_FILE = WORKER + (
    "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the "
    "process was killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker "
    "crashed unexpectedly due to SIGSEGV or another unexpected error."
)
MEMORY = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 2359) was "
    "5.77GB used / 23.54GB limit (0.245245)\nOOM kill reason: Memory usage 6116089856B exceeded threshold"
)
INIT = (
    "The actor died because of an error raised in its creation task, \x1b[36mray::A.__init__()\x1b[39m (pid=12875, "
    'ip=192.0.2.2, actor_id=a06a)\n  File "x.py", line 12, in __init__\nValueError: no such folder: /x'
)
NOTHING_LEFT = Evidence((), None, 3)


@pytest.mark.parametrize(
    ("message", "evidence", "wanted"),
    [
        (WORKER + "Worker exits unexpectedly. Worker exits with an exit code 5.", None, "ended with exit code 5"),
        (
            WORKER + "Worker exits unexpectedly. Worker exits with an exit code 1. The process receives a SIGTERM.",
            None,
            "terminated by SIGTERM",
        ),
        (WORKER + "Worker exits with an exit code 0. exit_actor() is called.", None, "ended itself (exit_actor)"),
        (END_OF_FILE, NOTHING_LEFT, "killed with SIGKILL (or left by os._exit: it wrote no crash report)"),
        (END_OF_FILE, Evidence((), "SIGSEGV", 3), "crashed with SIGSEGV"),
        (
            END_OF_FILE,
            Evidence((), None, 4),
            "killed with SIGKILL by the kernel, because memory ran out (its oom_kill count rose)",
        ),
        (END_OF_FILE, None, "ended without a word, by a signal or by os._exit"),
        (MEMORY, None, "ended by Ray's memory monitor, because its node ran out of memory: 5.77GB of 23.54GB used"),
        (INIT, None, "could not start: ValueError: no such folder: /x"),
        (DIED + "The actor is dead because it was killed by `ray.kill`.", None, "ended by ray.kill"),
        (DIED + "The actor died because its node has died. Node Id: 3ec9", None, "its node was lost"),
        ("The actor 066212 is unavailable: RpcError: Socket closed", None, "its node or its network does not answer"),
        (
            "verifier-1 did not finish starting within 5 s.\nmore",
            None,
            "verifier-1 did not finish starting within 5 s.",
        ),
    ],
)
def test_every_way_to_die_has_its_words(message: str, evidence: Evidence | None, wanted: str) -> None:
    assert in_words(message, evidence, 3) == wanted


def test_the_last_log_lines_leave_out_rays_own_and_a_traceback_hides_no_output() -> None:
    out = [":job_id:01000000", ":actor_name:A", *(f"line {number}" for number in range(9)), "", "\x1b[31mred\x1b[0m"]
    frames = ['  File "/x/ray/_private/worker.py", line 1 in main_loop', "Extension modules: msgpack (total: 1)"]
    assert last_lines(out, frames) == ("line 5", "line 6", "line 7", "line 8", "red")
    assert last_lines(out, [*"abcdef", *frames]) == ("line 8", "red", "d", "e", "f")
    assert last_lines(["one"], ["a"]) == ("one", "a")


def test_the_end_of_a_huge_log_is_read_without_the_rest(tmp_path: Path) -> None:
    log = tmp_path / "worker.out"
    log.write_bytes(b"\xff" * 10 + b"x" * 10_000_000 + b"\nthe last\n")
    assert tail(log)[-1] == "the last"
    assert sum(len(line) for line in tail(log)) < 100_000


def test_the_kernels_count_of_out_of_memory_kills_is_read_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("oom_kill_x 9\noom_kill 3\nballoon 1\n")
    (tmp_path / "events").write_text("oom 7\noom_kill 2\n")
    assert count_oom_kills([tmp_path / "vmstat", tmp_path / "events", tmp_path / "absent"]) == 5
