"""An unfinished commit is cut off wherever it tore; damage anywhere else is an error that says where, never a cut."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from residency.platform.errors import DataError
from residency.platform.journal.frames import FILE_MAGIC, pack
from residency.platform.journal.journal import Journal
from residency.platform.journal.reader import JournalReader, read_state
from residency.platform.journal.records import Admitted, Opened
from residency.platform.journal.segments import seal_path, segment_name

WriteGroups = Callable[[Path, int], list[str]]


def frame(first: int, *keys: str) -> bytes:
    return pack([Admitted(key, "item") for key in keys], first, 1.0)


def open_segment(folder: Path, *frames: bytes) -> Path:
    """A journal of one segment that its driver did not close."""
    folder.mkdir(exist_ok=True)
    path = folder / segment_name(1)
    path.write_bytes(FILE_MAGIC + b"".join(frames))
    return path


def test_a_commit_torn_at_any_byte_is_cut_off_and_the_rest_is_read(tmp_path: Path) -> None:
    whole = [frame(0, "a", "b"), frame(2, "c")]
    last = frame(3, "d", "e", "f")
    for kept in range(len(last)):
        folder = tmp_path / str(kept)
        path = open_segment(folder, *whole, last[:kept])
        assert list(read_state(folder).keys) == ["a", "b", "c"]
        with Journal.open(folder) as journal:
            assert journal.cut_bytes == kept
            assert list(journal.state.keys) == ["a", "b", "c"]
            journal.append(Admitted("g"))
        assert path.read_bytes() == FILE_MAGIC + b"".join(whole)
        assert list(read_state(folder).keys) == ["a", "b", "c", "g"]


def test_a_commit_whose_pages_never_reached_the_disk_is_cut_off(tmp_path: Path) -> None:
    last = frame(1, "b", "c")
    for number, end in enumerate((bytes(500), last[:30] + bytes(len(last) - 30), bytes(28) + last[28:])):
        folder = tmp_path / str(number)
        open_segment(folder, frame(0, "a"), end)
        with Journal.open(folder) as journal:
            assert list(journal.state.keys) == ["a"]
            assert journal.cut_bytes == len(end)


def test_a_segment_torn_while_it_was_made_holds_nothing(tmp_path: Path) -> None:
    for length in range(len(FILE_MAGIC) + 1):
        folder = tmp_path / str(length)
        path = open_segment(folder)
        path.write_bytes(FILE_MAGIC[:length])
        with Journal.open(folder) as journal:
            journal.append(Admitted("a"))
        assert list(read_state(folder).keys) == ["a"]


def test_a_flipped_byte_in_the_middle_is_an_error_with_segment_and_offset(tmp_path: Path) -> None:
    frames = [frame(0, "a"), frame(1, "b"), frame(2, "c")]
    whole = FILE_MAGIC + b"".join(frames)
    path = open_segment(tmp_path, *frames)
    offsets = [0, len(FILE_MAGIC), len(FILE_MAGIC) + len(frames[0])]
    for at in range(len(whole) - len(frames[2])):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        begin = max(offset for offset in offsets if offset <= at)
        with pytest.raises(DataError, match=rf"segment-00000001\.log at offset {begin} "):
            Journal.open(tmp_path)
        assert path.read_bytes() == bytes(damaged)  # nothing was cut away


def test_a_damaged_commit_before_a_torn_one_is_an_error(tmp_path: Path) -> None:
    middle = bytearray(frame(1, "b"))
    middle[-1] ^= 1
    path = open_segment(tmp_path, frame(0, "a"), bytes(middle), frame(2, "c")[:-3])
    size = path.stat().st_size
    with pytest.raises(DataError, match="while more was written behind it"):
        Journal.open(tmp_path)
    assert path.stat().st_size == size


def test_a_sealed_segment_that_is_shorter_or_altered_is_an_error(tmp_path: Path, write_groups: WriteGroups) -> None:
    write_groups(tmp_path, 3)
    path = tmp_path / segment_name(1)
    whole = path.read_bytes()
    for cut in (1, 40, len(whole)):
        path.write_bytes(whole[:-cut])
        with pytest.raises(DataError, match=rf"offset {len(whole) - cut} ends there, and was sealed with {len(whole)}"):
            Journal.open(tmp_path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # the last commit, which would pass for a torn one
    with pytest.raises(DataError, match="it is sealed"):
        Journal.open(tmp_path)


def test_bytes_behind_a_seal_do_not_count(tmp_path: Path, write_groups: WriteGroups) -> None:
    keys = write_groups(tmp_path, 3)
    path = tmp_path / segment_name(1)
    path.write_bytes(path.read_bytes() + frame(13, "of a driver that was taken for dead"))
    with Journal.open(tmp_path) as journal:
        assert list(journal.state.keys) == keys


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    for life in range(3):
        with Journal.open(tmp_path / "whole") as journal:
            journal.append(Admitted(str(life)))
    for number in (1, 2, 3):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", folder)
        (folder / segment_name(number)).unlink()
        with pytest.raises(DataError, match=rf"segment-0000000{number}\.log is missing"):
            Journal.open(folder)
        with pytest.raises(DataError, match=rf"segment-0000000{number}\.log is missing"):
            read_state(folder)


def test_a_missing_or_unreadable_seal_is_named(tmp_path: Path) -> None:
    for life in range(2):
        with Journal.open(tmp_path) as journal:
            journal.append(Admitted(str(life)))
    seal = seal_path(tmp_path / segment_name(1))
    content = seal.read_bytes()
    seal.unlink()
    with pytest.raises(DataError, match=r"segment-00000001\.log has no seal"):
        read_state(tmp_path)
    seal.write_bytes(content[:20])
    with pytest.raises(DataError, match=r"segment-00000001\.seal cannot be read"):
        read_state(tmp_path)


def test_segments_of_two_journals_do_not_go_together(tmp_path: Path, write_groups: WriteGroups) -> None:
    write_groups(tmp_path / "one", 3)
    write_groups(tmp_path / "two", 4)
    with Journal.open(tmp_path / "two") as journal:
        journal.append(Admitted("more"))
    for suffix in (".log", ".seal"):
        shutil.copy(tmp_path / "two" / f"segment-00000002{suffix}", tmp_path / "one")
    with pytest.raises(DataError, match="begins at record 17 where 13 is due"):
        read_state(tmp_path / "one")


def test_a_damaged_journal_gives_its_place_free(tmp_path: Path) -> None:
    path = open_segment(tmp_path, frame(0, "a"), frame(1, "b"))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"item", b"iten", 1))
    with pytest.raises(DataError, match="offset 8 "):
        Journal.open(tmp_path)
    path.write_bytes(whole)
    with Journal.open(tmp_path) as journal:
        assert list(journal.state.keys) == ["a", "b"]
    records = [record for frame in JournalReader(tmp_path).frames() for record in frame.records]
    assert sum(isinstance(record, Opened) for record in records) == 1
