"""Asked once, answered once, whoever dies: the queue on a real journal, closed and opened as restarts do."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from residency.platform.cli.app import app
from residency.platform.errors import DataError, RunInUseError
from residency.platform.journal.journal import Journal
from residency.platform.journal.reader import read_state
from residency.platform.journal.records import Answered
from residency.platform.journal.state import Stage
from residency.platform.work_queue import DeadLetter, WorkQueue


@contextmanager
def opened(folder: Path, tries: int = 3) -> Iterator[WorkQueue]:
    with Journal.open(folder) as journal:
        yield WorkQueue(journal, tries)


def answered(*keys: str, worker: str = "w") -> list[Answered]:
    return [Answered(key, worker, (f"traces/{key}",)) for key in keys]


def test_work_goes_from_admitted_to_answered_and_stays_so(tmp_path: Path) -> None:
    async def work(queue: WorkQueue) -> None:
        assert queue.admit({"rl-1/b": "B", "rl-1/a": "A", "sft/c": "C"}) == ["rl-1/b", "rl-1/a", "sft/c"]
        assert queue.waiting("rl-1/") == ["rl-1/b", "rl-1/a"]
        assert await queue.request(["rl-1/b", "sft/c"], "w") == ["rl-1/b", "sft/c"]
        assert queue.waiting() == ["rl-1/a"]
        assert read_state(tmp_path).keys["rl-1/b"].worker == "w"  # on disk before anybody is asked
        assert await queue.answer(answered("rl-1/b")) == ["rl-1/b"]
        assert read_state(tmp_path).keys["rl-1/b"].stage is Stage.ANSWERED

    with opened(tmp_path) as queue:
        asyncio.run(work(queue))
    with opened(tmp_path) as queue:
        assert queue.admit({"rl-1/b": "B", "new": ""}) == ["new"]
        assert queue.waiting() == ["rl-1/a", "sft/c", "new"]  # in flight at the end: asked again, in its old place
        state = read_state(tmp_path)
        assert state.keys["sft/c"].stage is Stage.ADMITTED
        assert state.keys["sft/c"].tries == 0  # a driver's death is not the request's fault
        assert "ended while it was in flight" in state.keys["sft/c"].cause


def test_only_the_first_answer_counts(tmp_path: Path) -> None:
    async def work(queue: WorkQueue) -> None:
        queue.admit({"a": "", "b": ""})
        await queue.request(["a", "b"], "w1")
        assert await queue.answer(answered("a", "a", worker="w1")) == ["a"]
        assert await queue.answer(answered("a", worker="w2")) == []
        assert await queue.give_back(["b"], "w1 left", spent=False) == []
        assert queue.waiting() == ["b"]
        assert await queue.answer(answered("b", worker="w1")) == ["b"]  # late, and the first
        assert queue.waiting() == []
        assert await queue.request(["a", "b"], "w2") == []
        assert await queue.give_back(["a", "b"], "w2 died", spent=True) == []
        with pytest.raises(DataError, match="nobody is unknown"):
            await queue.answer(answered("nobody"))

    with opened(tmp_path) as queue:
        asyncio.run(work(queue))
        assert read_state(tmp_path).keys["a"].worker == "w1"


def test_a_lost_workers_request_is_released_and_costs_a_try(tmp_path: Path) -> None:
    async def work(queue: WorkQueue) -> None:
        queue.admit({"a": ""})
        assert await queue.request(["a"], "w1") == ["a"]
        assert await queue.request(["a"], "w2") == ["a"]
        now = read_state(tmp_path).keys["a"]
        assert (now.worker, now.asked, now.tries) == ("w2", 2, 1)
        assert await queue.request(["a"], "w3") == []  # two tries, both spent
        assert queue.dead_letters()[0].cause == "w2 was lost before it answered, and w3 is asked instead"

    with opened(tmp_path, tries=2) as queue:
        asyncio.run(work(queue))


def test_asking_a_worker_again_that_was_not_reached_costs_no_try(tmp_path: Path) -> None:
    async def work(queue: WorkQueue) -> None:
        queue.admit({"a": ""})
        for asked in range(1, 6):  # the connection breaks at once, again and again, before its loss is known
            assert await queue.request(["a"], "w1") == ["a"]
            assert (queue.in_flight(), queue.dead_letters()) == (["a"], [])
            assert read_state(tmp_path).keys["a"].asked == asked
        assert read_state(tmp_path).keys["a"].tries == 0

    with opened(tmp_path, tries=2) as queue:
        asyncio.run(work(queue))


def test_dead_letters_hold_the_cause_without_secrets_and_can_be_taken_up(tmp_path: Path) -> None:
    async def work(queue: WorkQueue) -> None:
        queue.admit({"a": "what", "b": "else"})
        for attempt in range(3):
            assert await queue.request(["a"], "w") == ["a"]
            failed = await queue.give_back(["a"], f"refused: api_key=abc{attempt}def at https://u:p@host/x", spent=True)
            assert failed == (["a"] if attempt == 2 else [])
        assert await queue.request(["a"], "w") == []
        assert await queue.answer(answered("a")) == []  # it was given up, and somebody acted on that
        cause = "refused: api_key=<redacted> at https://<redacted>@host/x"
        assert queue.dead_letters() == [DeadLetter(key="a", cause=cause, tries=3, request="what")]
        assert queue.dead_letters("b") == []
        assert await queue.take_up(["a", "b"]) == ["a"]
        assert queue.waiting() == ["a", "b"]
        for attempt in range(3):  # with all its tries
            await queue.request(["a"], "w")
            assert await queue.give_back(["a"], "again", spent=True) == (["a"] if attempt == 2 else [])

    with opened(tmp_path) as queue:
        asyncio.run(work(queue))
    assert b"def at" not in b"".join(path.read_bytes() for path in tmp_path.glob("segment-*"))


def test_another_request_under_a_known_key_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as queue:
        queue.admit({"a": "left?"})
        with pytest.raises(DataError, match=r"'right\?' and was admitted as 'left\?'"):
            queue.admit({"a": "right?"})


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "answer", "left", "died", "restart"]), st.integers(0, 3), st.sampled_from(["v", "w"])
    ),
    max_size=30,
)


@settings(max_examples=25)
@given(STEPS)
def test_no_key_is_lost_or_answered_twice_in_any_order_of_events(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, str]]
) -> None:
    """Against a model of one line a rule: what is asked, by whom, and who answered first."""
    folder = tmp_path_factory.mktemp("journal")
    keys = [f"k{number}" for number in range(4)]
    flying: dict[str, str] = {}
    first: dict[str, str] = {}
    spent = dict.fromkeys(keys, 0)
    dead: set[str] = set()

    def spend(key: str) -> None:
        spent[key] += 1
        flying.pop(key)
        if spent[key] == 2:
            dead.add(key)

    async def step(queue: WorkQueue, what: str, key: str, worker: str) -> None:
        if what == "ask":
            if flying.get(key, worker) != worker:
                spend(key)
            wanted = [key] if key not in first and key not in dead else []
            assert await queue.request([key], worker) == wanted
            flying.update(dict.fromkeys(wanted, worker))
        elif what == "answer":
            wanted = [key] if key not in first and key not in dead else []
            assert await queue.answer(answered(key, worker=worker)) == wanted
            flying.pop(key, None)
            first.update(dict.fromkeys(wanted, worker))
        else:
            was_dead = key in dead
            if key in flying:
                spend(key) if what == "died" else flying.pop(key)
            failed = await queue.give_back([key], what, spent=what == "died")
            assert failed == ([key] if key in dead and not was_dead else [])

    journal = Journal.open(folder)
    queue = WorkQueue(journal, tries=2)
    queue.admit(dict.fromkeys(keys, ""))
    for what, number, worker in steps:
        if what == "restart":
            journal.close()
            flying.clear()
            journal = Journal.open(folder)
            queue = WorkQueue(journal, tries=2)
        else:
            asyncio.run(step(queue, what, keys[number], worker))
        assert queue.waiting() == [key for key in keys if key not in first and key not in dead and key not in flying]
        assert queue.in_flight() == [key for key in keys if key in flying]
    journal.close()
    state = read_state(folder)
    assert {key: now.worker for key, now in state.keys.items() if now.stage is Stage.ANSWERED} == first
    assert {key for key, now in state.keys.items() if now.stage is Stage.FAILED} == dead


def dead_run(run: Path) -> None:
    async def fail(queue: WorkQueue) -> None:
        queue.admit({"rl-1/a": "A", "sft/b": "B", "sft/c": "C"})
        await queue.request(["rl-1/a", "sft/b"], "w")
        await queue.give_back(["rl-1/a", "sft/b"], "refused", spent=True)

    with opened(run / "journal", tries=1) as queue:
        asyncio.run(fail(queue))


def test_retry_lists_dead_letters_and_takes_them_up(tmp_path: Path) -> None:
    dead_run(tmp_path)
    done = CliRunner().invoke(app, ["retry", str(tmp_path), "--prefix", "rl-1/", "--json"])
    assert done.exit_code == 0
    letter = {"key": "rl-1/a", "cause": "refused", "tries": 1, "request": "A"}
    told = {"run": str(tmp_path), "prefix": "rl-1/", "taken_up": [letter], "reopened": []}
    assert json.loads(done.stdout) == told
    with opened(tmp_path / "journal") as queue:
        assert queue.waiting() == ["rl-1/a", "sft/c"]
        assert [letter.key for letter in queue.dead_letters()] == ["sft/b"]


def test_retry_is_refused_while_a_driver_is_on_the_run(tmp_path: Path) -> None:
    dead_run(tmp_path)
    with Journal.open(tmp_path / "journal"):
        command = [sys.executable, "-m", "residency.platform.cli.app", "retry", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert "is in use by process" in " ".join(done.stderr.split())
        with pytest.raises(RunInUseError):
            Journal.open(tmp_path / "journal")
    assert [letter.key for letter in opened_letters(tmp_path)] == ["rl-1/a", "sft/b"]


def opened_letters(run: Path) -> list[DeadLetter]:
    with opened(run / "journal") as queue:
        return queue.dead_letters()


def test_retry_of_a_folder_without_a_journal_is_a_mistake(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["retry", str(tmp_path)])
    assert "has no journal" in str(done.exception)
    assert not (tmp_path / "journal").exists()
