"""The append-only Arrow files."""

from pathlib import Path

import pyarrow as pa
import pytest

from residency.platform.errors import StorageError
from residency.synthesis.pipeline.arrow_log import ArrowLog, read_batch, read_log
from residency.synthesis.pipeline.ledger import OUTCOME_SCHEMA, read_outcomes, rows_batch

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch({"n": list(numbers), "text": [str(number) * 50 for number in numbers]}, schema=SCHEMA)


def written(folder: Path, name: str = "log-00001", part_bytes: int = 1 << 20) -> list[str]:
    log = ArrowLog(folder, name, SCHEMA, part_bytes)
    references = [log.append(batch(number, number + 1)) for number in range(0, 10, 2)]
    log.sync()
    log.close()
    return references


def numbers(folder: Path) -> list[int]:
    return [number for found in read_log(folder, "log", ["n"]) for number in found.column("n").to_pylist()]


def test_each_batch_is_found_by_its_reference_and_all_in_order(tmp_path: Path) -> None:
    references = written(tmp_path, part_bytes=900)
    assert len({reference.partition("@")[0] for reference in references}) > 1
    for number, reference in enumerate(references):
        assert read_batch(tmp_path, reference, SCHEMA) == batch(2 * number, 2 * number + 1)
    assert numbers(tmp_path) == list(range(10))


def test_a_torn_end_costs_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    references = written(tmp_path)
    path = tmp_path / references[-1].partition("@")[0]
    whole = path.read_bytes()
    last = int(references[-1].partition("@")[2])
    for cut in range(last, len(whole), 7):
        path.write_bytes(whole[:cut])
        assert numbers(tmp_path) == list(range(8))
        assert read_batch(tmp_path, references[-2], SCHEMA) == batch(6, 7)
    for cut in (0, 3, 40):
        path.write_bytes(whole[:cut])
        assert numbers(tmp_path) == []


def test_a_batch_that_is_gone_is_a_storage_error_that_names_the_file(tmp_path: Path) -> None:
    references = written(tmp_path)
    path = tmp_path / references[0].partition("@")[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StorageError, match=path.name):
        read_batch(tmp_path, references[-1], SCHEMA)
    path.unlink()
    with pytest.raises(StorageError, match=path.name):
        read_batch(tmp_path, references[0], SCHEMA)


def test_a_row_that_a_kill_doubled_counts_once_and_the_last_holds(tmp_path: Path) -> None:
    for start, reason in ((1, "before"), (2, "after")):
        log = ArrowLog(tmp_path, f"outcomes-{start:05d}", OUTCOME_SCHEMA)
        log.append(rows_batch([("a", "rejected", reason, 0, 1, "", 0, 1)], OUTCOME_SCHEMA))
        log.close()
    assert read_outcomes(tmp_path).column("reason").to_pylist() == ["after"]
