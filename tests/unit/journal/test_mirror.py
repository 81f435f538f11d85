"""What was mirrored comes back byte for byte, from a disk, memory and S3; what is lost is named and counted."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import msgspec
import pytest
from moto.server import ThreadedMotoServer

from residency.platform.errors import BadInputError, DataError, StorageError
from residency.platform.journal.journal import Journal
from residency.platform.journal.mirror import Manifest, Mirror, Pushed
from residency.platform.journal.reader import read_state
from residency.platform.journal.records import Admitted
from residency.platform.journal.restoring import placing_order, restore
from residency.platform.journal.segments import segment_paths

SEGMENTS, GROUPS = 4, 10
RECORDS = GROUPS + 1  # in each segment: its groups and who opened it


@dataclass(frozen=True)
class Place:
    """An address for mirrors, with what fsspec needs to reach it."""

    uri: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> Any:
        return fsspec.core.url_to_fs(self.uri, **self.options)[0]

    def path(self, name: str) -> str:
        return f"{fsspec.core.url_to_fs(self.uri, **self.options)[1]}/{name}"

    def restore(self, folder: Path, partial: bool = False) -> Any:
        return restore(self.uri, folder, partial=partial, options=self.options)


@pytest.fixture(scope="module")
def s3_options() -> Iterator[dict[str, Any]]:
    """An S3 server on loopback with a bucket called ``lab``."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "testing", "secret": "testing"}
    fsspec.filesystem("s3", **options).mkdir("lab")
    yield options
    server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    name = uuid4().hex
    if request.param == "s3":
        return Place(f"s3://lab/{name}", request.getfixturevalue("s3_options"))
    return Place(f"memory://{name}" if request.param == "memory" else f"file://{tmp_path}/mirror/{name}")


@pytest.fixture(scope="module")
def written_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with sealed segments and two trace parts."""
    folder = tmp_path_factory.mktemp("written") / "run"
    for segment in range(SEGMENTS):
        with Journal.open(folder / "journal") as journal:
            journal.append(*(Admitted(f"rl-{segment}/{number}") for number in range(GROUPS)))
    for kind in ("traces", "verdicts"):
        (folder / kind).mkdir()
        (folder / kind / "part-rl-00000.arrow").write_bytes(kind.encode() * 5000)
    return folder


@pytest.fixture
def run(written_run: Path, tmp_path: Path) -> Path:
    """That run, to be changed."""
    return Path(shutil.copytree(written_run, tmp_path / "run"))


def parts(run: Path) -> list[Path]:
    return [run / kind / "part-rl-00000.arrow" for kind in ("traces", "verdicts")]


def contents(folder: Path) -> dict[str, bytes]:
    """The files that a mirror is about: segments, seals and trace parts."""
    kept = [path for path in folder.rglob("*") if path.suffix in (".log", ".seal", ".arrow")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def test_a_lost_disk_comes_back_byte_for_byte(run: Path, place: Place) -> None:
    pushed = Mirror(place.uri, place.options).push(run, parts(run))
    assert (pushed.num_sent, pushed.num_objects, pushed.open_records) == (2 * SEGMENTS + 2, 2 * SEGMENTS + 2, 0)
    before, keys = contents(run), read_state(run / "journal").keys
    shutil.rmtree(run)
    restoration = place.restore(run)
    assert contents(run) == before
    assert (restoration.num_segments, restoration.num_records) == (SEGMENTS, SEGMENTS * RECORDS)
    assert (restoration.missing, restoration.missing_records) == ((), 0)
    assert not list(run.glob(".restoring-*"))
    with Journal.open(run / "journal") as journal:
        assert journal.state.keys == keys


def test_nothing_is_sent_twice(run: Path, place: Place) -> None:
    Mirror(place.uri, place.options).push(run, parts(run))
    manifest = place.files.cat_file(place.path("manifest.json"))
    for mirror in (Mirror(place.uri, place.options), Mirror(place.uri, place.options)):
        assert mirror.push(run, parts(run)) == Pushed(
            num_sent=0, sent_bytes=0, num_objects=2 * SEGMENTS + 2, open_records=0
        )
    place.files.invalidate_cache()
    assert place.files.cat_file(place.path("manifest.json")) == manifest


def test_the_open_segment_is_counted_and_sent_once_it_is_sealed(run: Path, place: Place, tmp_path: Path) -> None:
    mirror = Mirror(place.uri, place.options)
    with Journal.open(run / "journal") as journal:
        journal.append(Admitted("a"), Admitted("b"))
        journal.commit()
        pushed = mirror.push(run)
        assert (pushed.num_sent, pushed.open_records) == (2 * SEGMENTS, 3)
        restoration = place.restore(tmp_path / "early")
        assert "at least 3 records of the open segment were not mirrored" in str(restoration)
        journal.seal()
        pushed = mirror.push(run)
        assert (pushed.num_sent, pushed.open_records) == (2, 0)
    assert place.restore(tmp_path / "late").num_records == SEGMENTS * RECORDS + 3


def test_a_push_that_died_before_its_manifest_is_taken_up(run: Path, place: Place) -> None:
    Mirror(place.uri, place.options).push(run, parts(run))
    place.files.rm_file(place.path("manifest.json"))
    with pytest.raises(DataError, match=r"holds no manifest\.json"):
        place.restore(run.parent / "back")
    assert Mirror(place.uri, place.options).push(run, parts(run)).num_sent == 0
    place.restore(run.parent / "back")
    assert contents(run.parent / "back") == contents(run)


@pytest.mark.parametrize("with_manifest", [True, False])
def test_objects_of_another_run_are_never_overwritten(
    run: Path, place: Place, tmp_path: Path, with_manifest: bool
) -> None:
    Mirror(place.uri, place.options).push(run)
    if not with_manifest:
        place.files.rm_file(place.path("manifest.json"))
    name = segment_paths(run / "journal")[0].name
    before = place.files.cat_file(place.path(f"journal/{name}"))
    with Journal.open(tmp_path / "other" / "journal") as journal:
        journal.append(*(Admitted(f"xl-0/{number}") for number in range(GROUPS)))
    with pytest.raises(DataError, match=rf"{name} has other bytes.*new, empty place"):
        Mirror(place.uri, place.options).push(tmp_path / "other")
    assert place.files.cat_file(place.path(f"journal/{name}")) == before


@pytest.mark.parametrize("damage", ["lost", "shorter", "flipped"])
@pytest.mark.parametrize("kind", ["log", "seal"])
def test_a_lost_or_damaged_segment_is_named_and_counted(
    run: Path, place: Place, tmp_path: Path, kind: str, damage: str
) -> None:
    Mirror(place.uri, place.options).push(run, parts(run))
    name = f"journal/segment-00000003.{kind}"
    whole = place.files.cat_file(place.path(name))
    place.files.rm_file(place.path(name))
    if damage != "lost":
        place.files.pipe_file(place.path(name), whole[:-1] + (b"" if damage == "shorter" else b"#"))
    back = tmp_path / "back"
    counts = f"of 4 segments 2, and of {4 * RECORDS} records {2 * RECORDS} cannot be restored"
    with pytest.raises(DataError, match=rf"{name} is (lost|damaged).*; {counts}"):
        place.restore(back)
    assert contents(back) == {}
    restoration = place.restore(back, partial=True)
    assert restoration.missing == (name,)
    assert (restoration.num_segments, restoration.missing_segments) == (2, 2)
    assert (restoration.num_records, restoration.missing_records) == (2 * RECORDS, 2 * RECORDS)
    expected = {
        path: data for path, data in contents(run).items() if "-00000003" not in path and "-00000004" not in path
    }
    assert contents(back) == expected
    with Journal.open(back / "journal") as journal:
        assert list(journal.state.keys) == [f"rl-{segment}/{n}" for segment in range(2) for n in range(GROUPS)]


def test_a_lost_trace_part_is_named(run: Path, place: Place, tmp_path: Path) -> None:
    Mirror(place.uri, place.options).push(run, parts(run))
    place.files.rm_file(place.path("traces/part-rl-00000.arrow"))
    with pytest.raises(DataError, match=r"part-rl-00000\.arrow is lost; of 4 segments 0, and of 44 records 0"):
        place.restore(tmp_path / "back")
    restoration = place.restore(tmp_path / "back", partial=True)
    assert restoration.missing == ("traces/part-rl-00000.arrow",)
    assert restoration.num_segments == SEGMENTS
    assert Mirror(place.uri, place.options).push(run, parts(run)).num_sent == 1  # a lost object is sent again
    place.restore(tmp_path / "whole")


def test_a_restoration_overwrites_nothing_and_can_be_repeated(run: Path, place: Place, tmp_path: Path) -> None:
    Mirror(place.uri, place.options).push(run, parts(run))
    before = contents(run)
    place.restore(run)  # the same files are there
    assert contents(run) == before
    parts(run)[0].write_bytes(b"newer")
    with pytest.raises(BadInputError, match="is there already, with other bytes"):
        place.restore(run)
    assert parts(run)[0].read_bytes() == b"newer"


def test_an_interrupted_restoration_never_opens_as_a_shorter_journal(run: Path, tmp_path: Path) -> None:
    place = Place(f"memory://{uuid4().hex}")
    Mirror(place.uri).push(run, parts(run))
    manifest = msgspec.json.decode(place.files.cat_file(place.path("manifest.json")), type=Manifest)
    names = [each.name for each in placing_order(manifest, place.restore(tmp_path / "back"))]
    assert sorted(names) == sorted(contents(run))
    for name in names[:-1]:  # stopped behind this one
        (tmp_path / "torn" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / name, tmp_path / "torn" / name)
        with pytest.raises(DataError, match="is missing"):
            read_state(tmp_path / "torn" / "journal")
    place.restore(tmp_path / "torn")
    assert contents(tmp_path / "torn") == contents(run)


def test_names_outside_the_run_are_refused(tmp_path: Path) -> None:
    place = Place(f"memory://{uuid4().hex}")
    for name in ("../outside.log", "/etc/outside.log", "journal/../../outside.log"):
        content = {"time": 1.0, "objects": [{"name": name, "num_bytes": 1, "sha256": "0"}]}
        place.files.pipe_file(place.path("manifest.json"), msgspec.json.encode(content))
        with pytest.raises(DataError, match="names under the run's folder"):
            place.restore(tmp_path / "back")


def test_a_segment_that_changed_after_its_seal_is_not_mirrored(run: Path) -> None:
    place = Place(f"memory://{uuid4().hex}")
    path = segment_paths(run / "journal")[1]
    path.write_bytes(path.read_bytes().replace(b"rl-1/3", b"rl-1/4"))
    with pytest.raises(DataError, match=rf"{path.name} is not what was sealed"):
        Mirror(place.uri).push(run)
    assert "manifest.json" not in [each.rsplit("/", 1)[-1] for each in place.files.find(place.path(""))]


def test_late_bytes_behind_a_seal_are_not_mirrored(run: Path, tmp_path: Path) -> None:
    place = Place(f"file://{tmp_path}/mirror")
    before = contents(run)
    with segment_paths(run / "journal")[1].open("ab") as file:
        file.write(b"late")
    Mirror(place.uri).push(run, parts(run))
    place.restore(tmp_path / "back")
    assert contents(tmp_path / "back") == before


def test_files_outside_the_run_are_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "other.arrow").write_bytes(b"x")
    with pytest.raises(BadInputError, match="does not lie under"):
        Mirror(f"memory://{uuid4().hex}").push(run, [tmp_path / "other.arrow"])


def test_a_store_that_fails_or_is_unknown_says_so(run: Path, s3_options: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match=r"the mirror s3://nowhere/run failed at .*bucket"):
        Mirror("s3://nowhere/run", s3_options).push(run)
    with pytest.raises(BadInputError, match="cannot be used as a mirror"):
        Mirror("carrierpigeon://roof/run")


def test_a_damaged_manifest_is_an_error(run: Path, place: Place) -> None:
    Mirror(place.uri, place.options).push(run)
    content = place.files.cat_file(place.path("manifest.json"))
    assert msgspec.json.decode(content, type=Manifest).objects[0].name == "journal/segment-00000001.log"
    place.files.pipe_file(place.path("manifest.json"), content[:-10])
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        place.restore(run.parent / "back")
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        Mirror(place.uri, place.options).push(run)
