"""From records of a file to rows, each refusal on its own, and the check that mapped columns are in the file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from residency.synthesis.benchmarks.importing import Refused
from residency.synthesis.benchmarks.published_files import Record, UnusableRow
from residency.synthesis.importing.column_map import check_columns
from residency.synthesis.importing.row_files import column_names
from residency.synthesis.importing.source_row import ReadOptions, SourceRow

ROWS_ASKED = 100  # of a JSON file, in which each row has fields of its own


def checked_rows(records: Iterator[Record | Refused], source: Path, options: ReadOptions) -> Iterator[Record | Refused]:
    """The records, once every mapped column was found: in the header, or in one of the first rows of a JSON file.

    Raises DataError with the nearest name that is there.
    """
    header = column_names(source)
    if header is not None:
        check_columns(options.columns, header, source.name)
        yield from records
        return
    first: list[Record | Refused] = []
    for record in records:
        first.append(record)
        if len(first) == ROWS_ASKED:
            break
    seen = dict.fromkeys(name for record in first if isinstance(record, Record) for name in record.fields)
    if seen:
        check_columns(options.columns, list(seen), source.name)
    yield from first
    yield from records


def expand(
    records: Iterable[Record | Refused], build: Callable[[Record], Iterator[SourceRow] | Sequence[SourceRow]]
) -> Iterator[SourceRow | Refused]:
    """The rows of each record; one that cannot be used is refused whole, with its reason."""
    for record in records:
        if isinstance(record, Refused):
            yield record
            continue
        try:
            rows = list(build(record))
        except UnusableRow as error:
            yield Refused(key=str(record.number), where=record.where, reason=error.reason, detail=error.detail)
            continue
        yield from rows
