"""What was committed is there again; many writers share a sync; a journal that failed takes nothing more."""

import asyncio
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from residency.platform.errors import DataError, RunInUseError, StorageError
from residency.platform.journal.frames import FILE_MAGIC, Frame, pack, unpack, written_behind
from residency.platform.journal.journal import Journal
from residency.platform.journal.reader import JournalReader, read_state
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
from residency.platform.journal.segments import segment_paths
from residency.platform.journal.state import Stage, is_settled
from residency.platform.work_queue import WorkQueue

STORY: list[Record] = [
    Admitted("rl-1/a", "item a"),
    Admitted("rl-1/b"),
    Admitted("rl-1/c"),
    Requested("rl-1/a", "gen-0", 1),
    Released("rl-1/a", "gen-0 died: out of memory", spent=True),
    Requested("rl-1/a", "gen-1", 2),
    Answered("rl-1/a", "gen-1", ("traces/part-1.arrow:0-7",), 3, 4),
    Judged("rl-1/a", (1.0, None, 0.25), ("verdicts/part-1.arrow",)),
    Requested("rl-1/b", "gen-0", 1),
    Failed("rl-1/b", "HTTP 500"),
    TakenUp("rl-1/b"),
    Dropped("rl-1/c", "too stale"),
    Trained(("rl-1/a",), 0, 1),
    Restored(1, 0, 0),
    Trained(("rl-1/a",), 1, 1),
    Trained((), 0, 1, "rl_permuted"),
]


def records_of(folder: Path) -> list[Record]:
    return [record for frame in JournalReader(folder).frames() for record in frame.records]


def frames_of(folder: Path) -> list[Frame]:
    return list(JournalReader(folder).frames())


def without_driver(records: list[Record]) -> list[Record]:
    return [record for record in records if not isinstance(record, Opened)]


def test_every_kind_of_record_comes_back_as_it_was(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.append(*STORY)
        number = journal.commit()
        before = journal.state
        assert number == len(STORY) + 1
    assert without_driver(records_of(tmp_path)) == STORY
    after = read_state(tmp_path)
    assert after.keys == before.keys
    assert list(after.learner().steps()) == list(before.learner().steps()) == [((1, 1), ("rl-1/a",))]


def test_a_journal_goes_on_over_restarts_and_segments(tmp_path: Path) -> None:
    for life in range(3):
        with Journal.open(tmp_path, segment_bytes=500) as journal:
            assert len(journal.state.opened) == life + 1
            assert len(journal.state.keys) == life * 20
            for number in range(20):
                journal.append(Admitted(f"{life}/{number}"))
                journal.commit()
    assert len(segment_paths(tmp_path)) > 5
    assert list(read_state(tmp_path).keys) == [f"{life}/{number}" for life in range(3) for number in range(20)]
    firsts = [(frame.first, len(frame.records)) for frame in frames_of(tmp_path)]
    assert [first for first, _ in firsts] == [sum(count for _, count in firsts[:i]) for i in range(len(firsts))]


def test_coroutines_share_commits_and_each_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    def on_disk(key: str) -> bool:
        return key in read_state(tmp_path).keys

    async def admit(journal: Journal, key: str) -> bool:
        await journal.durable(Admitted(key))
        return on_disk(key) if key.endswith("7") else True

    async def main() -> list[bool]:
        with Journal.open(tmp_path) as journal:
            return await asyncio.gather(*(admit(journal, f"rl-1/{number}") for number in range(300)))

    assert all(asyncio.run(main()))
    assert len(read_state(tmp_path).keys) == 300
    assert len(frames_of(tmp_path)) < 30  # and not 300


def test_threads_share_commits(tmp_path: Path) -> None:
    def write(journal: Journal, thread: int) -> None:
        for number in range(50):
            wanted = journal.append(Admitted(f"{thread}/{number}"), Requested(f"{thread}/{number}", "w", 1))
            assert journal.commit() >= wanted

    with Journal.open(tmp_path, segment_bytes=2000) as journal:
        threads = [threading.Thread(target=write, args=(journal, thread)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    keys = list(read_state(tmp_path).keys)
    assert len(keys) == 400
    for thread in range(8):  # each thread's own order is kept
        assert [key for key in keys if key.startswith(f"{thread}/")] == [f"{thread}/{n}" for n in range(50)]


def test_a_coroutine_that_is_cancelled_loses_nothing_for_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        with Journal.open(tmp_path) as journal:
            tasks = [asyncio.create_task(journal.durable(Admitted(str(number)))) for number in range(40)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await journal.durable(Admitted("last"))

    asyncio.run(asyncio.wait_for(main(), 30))
    assert len(read_state(tmp_path).keys) == 41


def test_a_record_that_does_not_fit_is_refused_and_not_written(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        with pytest.raises(DataError, match="b, which is admitted"):
            journal.append(Admitted("a"), Admitted("b"), Judged("b", (1.0,)), Admitted("c"))
        journal.append(Admitted("d"))
        journal.commit()
        assert list(journal.state.keys) == ["a", "b", "d"]
    assert read_state(tmp_path).keys == journal.state.keys


def test_one_call_is_never_cut_in_two(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        for call in range(3):
            journal.append(*(Admitted(f"{call}/{number}") for number in range(5000)))
        journal.commit()
    assert [len(frame.records) for frame in frames_of(tmp_path)] == [1, 5000, 5000, 5000]


def test_a_record_that_cannot_be_written_ends_the_journal(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.append(Admitted("whole"))
    journal.commit()
    journal.append(Admitted("bad", cast(Any, object())))
    with pytest.raises(TypeError):
        journal.commit()
    with pytest.raises(StorageError, match="a write to"):
        journal.append(Admitted("next"))
    with pytest.raises(StorageError, match="a write to"):
        journal.commit()
    journal.close()
    assert list(read_state(tmp_path).keys) == ["whole"]


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.close()
    with pytest.raises(StorageError, match="was closed"):
        journal.append(Admitted("late"))
    with pytest.raises(StorageError, match="was closed"):
        journal.commit()


def test_sealing_on_demand_begins_a_new_segment(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.append(Admitted("a"))
        seal = journal.seal()
        assert seal is not None
        assert (seal.name, seal.first, seal.count) == ("segment-00000001.log", 0, 2)
        assert journal.seal() is None
        journal.append(Admitted("b"))
        journal.commit()
        assert [path.name for path in segment_paths(tmp_path)] == ["segment-00000001.log", "segment-00000002.log"]


def test_the_journal_can_be_read_while_its_driver_lives(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.append(Admitted("a"))
        journal.commit()
        assert read_state(tmp_path).keys["a"].stage is Stage.ADMITTED
        with pytest.raises(RunInUseError, match="is in use by process"):
            Journal.open(tmp_path)


def test_a_frame_of_a_newer_version_says_so(tmp_path: Path) -> None:
    payload = pack([Admitted("a")], 0, 1.0).replace(b"admitted", b"imagined")
    checked, body = payload[:24], payload[28:]
    frame = checked + zlib.crc32(body, zlib.crc32(checked)).to_bytes(4, "little") + body
    (tmp_path / "segment-00000001.log").write_bytes(FILE_MAGIC + frame)
    with pytest.raises(DataError, match=r"segment-00000001\.log at offset 8 .*does not know"):
        read_state(tmp_path)


def test_frames_pack_and_unpack() -> None:
    data = memoryview(b"......" + pack(STORY, 42, 17.5) + b"tail")
    frame = unpack(data, 6)
    assert frame == Frame(42, 17.5, STORY, len(data) - 4)
    assert unpack(data, 5) is None
    assert unpack(data[:-5], 6) is None
    assert written_behind(data, 0) == 6
    assert written_behind(data[:-5], 6) is None


def test_what_is_used_up_is_let_go_of_and_comes_back_from_disk(
    tmp_path: Path, write_groups: Callable[[Path, int], list[str]]
) -> None:
    g0, g1, g2, g3, g4, g5 = write_groups(tmp_path, 6)
    with Journal.open(tmp_path) as journal:
        journal.append(Dropped(g0, "too_stale"), *(Trained((key,), 0, n) for n, key in enumerate((g1, g2, g3, g4), 1)))
        queue, before = WorkQueue(journal), dict(journal.state.keys)
        assert journal.settle("rl", 2) == 3  # the dropped one, and two steps
        assert journal.settle("rl", 2) == 0
        kept = {key for key, now in journal.state.keys.items() if not is_settled(now)}
        assert kept == {g3, g4, g5}
        stages = [now.stage for now in journal.state.keys.values()]
        assert stages == [Stage.DROPPED, *[Stage.TRAINED] * 4, Stage.JUDGED]
        assert queue.admit({g0: "item", g1: "item"}) == []  # still known
        with pytest.raises(DataError, match="admitted twice"):
            journal.append(Admitted(g1, "item"))
        with pytest.raises(DataError, match="settled"):
            journal.append(Restored(1, 0, 1))  # needs what step 2 was trained on

        journal.append(Restored(1, 0, 3))
        journal.append(Trained((g4,), 1, 4), Trained((g5,), 1, 5))
        assert journal.settle("rl", 3) == 1
        journal.recall()
        assert journal.state.keys == read_state(tmp_path).keys
        assert {key: journal.state.keys[key] for key in (g0, g1, g2, g3)} == {
            key: before[key] for key in (g0, g1, g2, g3)
        }
        assert journal.settle("rl", 3) == 4  # the dropped one again as well
        journal.recall()
        journal.append(Restored(2, 0, 1))
        assert list(journal.state.learner().replay) == [g2, g3, g4, g5]
    assert read_state(tmp_path).keys == journal.state.keys
