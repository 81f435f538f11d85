"""A source of rows → a dataset folder, row by row: each row becomes an item or stands in the rejects file."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from residency.platform.dataset_folder import DatasetCard
from residency.platform.dataset_writer import DatasetWriter
from residency.platform.errors import DataError
from residency.synthesis.benchmarks.importing import SHOWN_REFUSALS, Refused
from residency.synthesis.benchmarks.pictures import ImageIntake
from residency.synthesis.benchmarks.published_files import UnusableRow
from residency.synthesis.importing.item_builder import ImportSettings, build_item
from residency.synthesis.importing.source_row import ReadOptions, RowFormat, SourceRow


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOutcome:
    """What became of the rows: ``taken`` + the sum of ``refused`` = ``rows``. ``repeats`` ask an earlier row's question
    of the same images; they are kept. ``rejects`` is the file of the refused rows, None where all were taken."""

    name: str
    rows: int
    taken: int
    kinds: Mapping[str, int]
    splits: Mapping[str, int]
    clusters: Mapping[str, int]
    licence: str
    refused: Mapping[str, int]
    first_refused: Mapping[str, tuple[Refused, ...]]
    repeats: int
    rejects: Path | None

    def lines(self) -> list[str]:
        """The report, one line each."""
        splits = ", ".join(
            f"{count} {name} ({self.clusters[name]} units)" for name, count in self.splits.items() if count
        )
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return [
            f"{self.taken} of {self.rows} rows of {self.name} taken: {splits}",
            f"answers: {kinds}",
            *refusal_lines(self.refused, self.first_refused),
            *([f"{self.repeats} rows ask an earlier row's question of the same images (kept)"] if self.repeats else []),
            f"licence: {self.licence}",
            *([f"refused rows: {self.rejects}"] if self.rejects else []),
        ]


def refusal_lines(refused: Mapping[str, int], first: Mapping[str, tuple[Refused, ...]]) -> list[str]:
    """The refusals by reason, the commonest first, each with its first rows."""
    lines = []
    for reason, count in sorted(refused.items(), key=lambda pair: (-pair[1], pair[0])):
        lines.append(f"refused {count}: {reason}")
        lines.extend(f"  {row.where}" + (f": {row.detail}" if row.detail else "") for row in first[reason])
    return lines


class RejectsFile:
    """``OUT.rejects.jsonl``: a line for each refused row, with its key, its place, the reason and the detail.

    Use as a context: without ``keep`` nothing is left behind.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.rejects.jsonl")
        self._aside = self.path.with_name(f"{self.path.name}.partial")
        self._file = self._aside.open("w", encoding="utf-8")
        self.counts: Counter[str] = Counter()
        self.first: dict[str, tuple[Refused, ...]] = {}

    def add(self, row: Refused) -> None:
        line = {"key": row.key, "where": row.where, "reason": row.reason, "detail": row.detail}
        self._file.write(json.dumps(line) + "\n")  # ASCII: a broken text is written down too
        self.counts[row.reason] += 1
        shown = self.first.setdefault(row.reason, ())
        if len(shown) < SHOWN_REFUSALS:
            self.first[row.reason] = (*shown, row)

    def keep(self) -> Path | None:
        """Give the file its name, and return it, where a row was refused; an older file of this name goes."""
        self._file.close()
        if self.counts:
            self._aside.replace(self.path)
            return self.path
        self.path.unlink(missing_ok=True)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._aside.unlink(missing_ok=True)


def import_rows(
    row_format: RowFormat,
    source: Path,
    out: Path,
    options: ReadOptions,
    settings: ImportSettings,
    on_row: Callable[[], None] | None = None,
) -> ImportOutcome:
    """Write the dataset folder ``out``; memory does not grow with rows, and one bad row costs only itself.

    ``on_row`` is called after each row, for a progress display. Raises BadInputError for an option of another format,
    DataError where the source is not of the format, where ``out`` is taken, or where no row at all can be used.
    """
    row_format.check_options(options)
    kinds, licences = Counter[str](), Counter[str]()
    rows = 0
    with DatasetWriter(out) as writer, RejectsFile(out) as rejects:
        intake = ImageIntake(writer)
        for row in row_format.read(source, options):
            rows += 1
            refused = row if isinstance(row, Refused) else take(row, settings, intake, writer, kinds, licences)
            if refused is not None:
                rejects.add(refused)
            if on_row is not None:
                on_row()
        if not writer.num_items:
            faults = "; ".join(line.strip() for line in refusal_lines(rejects.counts, rejects.first))
            raise DataError(f"no row of {source} can be used: {faults or 'it has none'}", row_format.files)
        card = writer.seal(
            DatasetCard(
                name=settings.name,
                source=f"{settings.name} ({row_format.name})",  # not the file's name, which may be a person's
                licence=", ".join(name for name, _ in licences.most_common()),
                splits=settings.plan.describe(),
                skipped=dict(rejects.counts),
            )
        )
        return ImportOutcome(
            name=settings.name,
            rows=rows,
            taken=writer.num_items,
            kinds=kinds,
            splits=card.counts,
            clusters=card.clusters,
            licence=card.licence,
            refused=rejects.counts,
            first_refused=rejects.first,
            repeats=writer.num_repeats,
            rejects=rejects.keep(),
        )


def take(
    row: SourceRow,
    settings: ImportSettings,
    intake: ImageIntake,
    writer: DatasetWriter,
    kinds: Counter[str],
    licences: Counter[str],
) -> Refused | None:
    """Add the row's item to the dataset, or say why not; an image that was stored for a refused row goes again."""
    put: list[str] = []
    try:
        item = build_item(row, settings, intake, put)
    except UnusableRow as error:
        writer.drop_unused(put)
        return Refused(key=row.key, where=row.where, reason=error.reason, detail=error.detail)
    clash = writer.add(item)
    if clash is not None:
        return Refused(key=row.key, where=row.where, reason=clash.reason, detail=clash.detail)
    kinds[item.answer_kind.value] += 1
    licences[item.licence] += 1
    return None
