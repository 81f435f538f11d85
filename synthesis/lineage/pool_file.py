"""Every example that a run made, taught or not: what the mixture is drawn from, and what a review decides on."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from residency.platform.arrow_tables import SCHEMAS, check_schema_version, from_table, write_parquet
from residency.platform.errors import DataError
from residency.platform.records import Example


def pool_path(run: Path) -> Path:
    return run / "lineage" / "pool.parquet"


def edits_path(run: Path) -> Path:
    return run / "lineage" / "edits.parquet"


def write_pool(run: Path, tables: Sequence[pa.Table]) -> pa.Table:
    """The tables as one, on disk."""
    pool = pa.concat_tables(tables)
    write_parquet(pool, pool_path(run))
    return pool


def read_pool(run: Path) -> pa.Table:
    """All examples that were made; raises DataError where the run has none yet."""
    return read_examples_table(pool_path(run))


def read_edits(run: Path) -> pa.Table:
    """Examples that reviewers wrote; empty where there are none."""
    path = edits_path(run)
    return read_examples_table(path) if path.is_file() else SCHEMAS[Example].empty_table()


def read_examples_table(path: Path) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path} does not exist", "a run whose synthesis is done", "let it go on first")
    table = pq.read_table(path)
    check_schema_version(table.schema.metadata, str(path))
    return table


def find_example(run: Path, example_id: str) -> Example | None:
    """An example that was made or edited; None where neither knows it."""
    for path in (pool_path(run), edits_path(run)):
        if path.is_file():
            found = pq.read_table(path, filters=[("id", "=", example_id)])
            if found.num_rows:
                return from_table(found.slice(0, 1), Example)[0]
    return None


def known_ids(run: Path) -> list[str]:
    """Ids of all examples that were made or edited."""
    found: list[str] = []
    for path in (pool_path(run), edits_path(run)):
        if path.is_file():
            found += pq.read_table(path, columns=["id"]).column("id").to_pylist()
    return found


def place_in_mixture(examples: Path, example_id: str) -> tuple[int | None, int]:
    """(place in training order from 0, or None where it was not drawn; size of the mixture)."""
    if not examples.is_file():
        return None, 0
    ids = pq.read_table(examples, columns=["id"]).column("id").to_pylist()
    return (ids.index(example_id) if example_id in ids else None), len(ids)
