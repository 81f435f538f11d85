"""Memory does not grow with rows: measured while 200,000 of them go through."""

import json
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from residency.platform.dataset_folder import content_hash, read_card, stream_items
from residency.synthesis.benchmarks.importing import import_benchmark
from residency.synthesis.importers import BENCHMARKS, ROW_FORMATS
from residency.synthesis.importing.item_builder import ImportSettings
from residency.synthesis.importing.row_import import import_rows
from residency.synthesis.importing.source_row import ReadOptions
from residency.synthesis.importing.splits import SplitPlan

ROWS, WARM, ROOM = 200_000, 100_000, 24 * 2**20  # SQLite's page cache (32 MiB) is full by WARM


@pytest.mark.timeout(900)
def test_memory_stays_and_row_groups_are_written(tmp_path: Path) -> None:
    source, out = tmp_path / "rows.json", tmp_path / "out"
    with source.open("w") as file:
        for i in range(ROWS):
            row = {
                "question": f"Is finding {i} seen in this case of the series?",
                "answer": "yes",
                "patient": f"p{i // 3}",
            }
            file.write(("[" if i == 0 else ",\n") + json.dumps(row))
        file.write("]")
    process, seen = psutil.Process(), list[int]()
    settings = ImportSettings(name="made", licence="CC0", plan=SplitPlan.parse("train=0.9,held_out=0.1", 0))
    count = 0

    def look() -> None:
        nonlocal count
        count += 1
        if count >= WARM and count % 5000 == 0:
            seen.append(process.memory_info().rss)

    outcome = import_rows(ROW_FORMATS["table"], source, out, ReadOptions(), settings, look)
    seen.append(process.memory_info().rss)
    assert outcome.taken == ROWS
    print("MiB from", WARM, "rows on:", [round(rss / 2**20) for rss in seen[::5]])
    assert max(seen) - seen[0] < ROOM, [round(rss / 2**20) for rss in seen]
    assert pq.ParquetFile(out / "items.parquet").num_row_groups == ROWS / 2000
    assert read_card(out).content_hash == content_hash(stream_items(out))


@pytest.mark.timeout(900)
def test_a_published_set_goes_through_row_by_row(tmp_path: Path) -> None:
    source, out, rows = tmp_path / "exam.jsonl", tmp_path / "out", 90_000
    pad = "of the series that was read twice " * 60  # 2 KB a row: kept in memory, 60,000 would be seen
    with source.open("w") as file:
        for i in range(rows):
            options = ["none", "one", "both"]
            row = {"id": str(i), "question": f"Finding {i} {pad}?", "options": options, "answer": "B"}
            file.write(json.dumps(row) + "\n")
    process, seen, count = psutil.Process(), list[int](), 0

    def look() -> None:
        nonlocal count
        count += 1
        if count >= rows // 3 and count % 5000 == 0:
            seen.append(process.memory_info().rss)

    report = import_benchmark(BENCHMARKS["exam"], source, "test", out, look)
    assert report.taken == rows
    print("MiB from", rows // 3, "rows on:", [round(rss / 2**20) for rss in seen])
    hashes = 400 * (rows - rows // 3)  # bytes: two a row are kept, to tell repeats and conflicts
    assert max(seen) - seen[0] < ROOM + hashes, [round(rss / 2**20) for rss in seen]
    assert read_card(out).content_hash == content_hash(stream_items(out))
