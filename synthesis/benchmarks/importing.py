"""A published benchmark → a dataset folder: which rows were taken, which refused and why, and whether n is right."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from residency.platform.dataset_folder import DatasetCard
from residency.platform.dataset_writer import DatasetWriter, short_hash
from residency.platform.errors import BadInputError, DataError
from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.verifiers.normal_form import bare, normal_form
from residency.platform.verifiers.rules import check_item, judge_answer
from residency.synthesis.benchmarks.pictures import ImageIntake

SHOWN_REFUSALS = 3  # places named for each reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One usable row of a published file.

    ``key`` is the row's key in the source and makes the item's id: equal files must give equal keys. ``where`` says
    where the row stands (file and row, counted from 1). ``cluster`` defaults to the first image's hash, else ``key``.
    """

    key: str
    where: str
    question: str
    options: tuple[str, ...] = ()
    answer: str
    answer_kind: AnswerKind
    images: tuple[bytes | Path, ...] = ()  # encoded images or files, in the order the question means
    cluster: str | None = None
    patient_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A row that cannot be used. ``reason`` is counted, so it names no single row; ``detail`` may."""

    key: str
    where: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """One published set. ``read(source, variant)`` yields every row of the variant, usable or not.

    ``published`` gives the published number of rows of each variant, None where none is published; its first variant
    is the default. A variant whose name begins with ``train`` becomes the train split, every other the held-out one.
    ``read`` raises DataError where the files are not of this format at all.
    """

    name: str
    title: str
    licence: str
    family: Family
    published: Mapping[str, int | None]
    source: str  # paper and hub id
    read: Callable[[Path, str], Iterator[Row | Refused]]
    note: str  # what a reader must know before quoting a number
    files: str = ""  # what must lie in the source

    @property
    def default_variant(self) -> str:
        return next(iter(self.published))


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """What became of the rows.

    ``first_refused`` holds the first rows of each reason. ``repeats`` and ``conflicts`` are rows that ask an earlier
    row's question of the same images, with the same or with another answer; ``twin_options`` are choices in which
    another option reads like the right one; ``repeated_keys`` are rows whose key an earlier row has. All are kept.
    """

    benchmark: str
    variant: str
    taken: int
    kinds: Mapping[str, int]  # rows taken by answer kind
    refused: Mapping[str, int]
    first_refused: Mapping[str, tuple[Refused, ...]]
    published: int | None
    repeats: int
    conflicts: int
    twin_options: int
    repeated_keys: int

    @property
    def difference(self) -> int | None:
        """Rows taken minus rows published; None where no number is published."""
        return None if self.published is None else self.taken - self.published

    def kinds_taken(self) -> str:
        """How many rows have which kind of answer, in one line."""
        return ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))

    def count_check(self) -> str:
        """One sentence on the published n, for the screen and for the dataset's card."""
        set_name = f"{self.benchmark} ({self.variant})"
        if self.difference is None:
            return f"{self.taken} rows of {set_name}; no published number to check against."
        if self.difference == 0:
            return f"{self.taken} rows of {set_name}, as published."
        more_or_fewer = "more" if self.difference > 0 else "fewer"
        refused = sum(self.refused.values())
        return (
            f"{self.taken} rows of {set_name}, {abs(self.difference)} {more_or_fewer} than the {self.published}"
            f" published ({refused} refused): a score on them is not a score on the published set."
        )

    def lines(self) -> list[str]:
        """The report, one line each: the check of n, refusals by reason with their first rows, what else is odd."""
        lines = [self.count_check()]
        for reason, count in sorted(self.refused.items(), key=lambda pair: (-pair[1], pair[0])):
            lines.append(f"refused {count}: {reason}")
            lines.extend(
                f"  {row.where}" + (f": {row.detail}" if row.detail else "") for row in self.first_refused[reason]
            )
        if self.repeats:
            lines.append(f"{self.repeats} rows repeat a question with the same images and the same answer (kept)")
        if self.conflicts:
            lines.append(
                f"{self.conflicts} rows repeat a question with the same images and another answer (kept):"
                " no model can be right on both"
            )
        if self.twin_options:
            lines.append(
                f"{self.twin_options} rows have another option that reads like the right one (kept): by text the"
                " two cannot be told apart"
            )
        if self.repeated_keys:
            lines.append(f"{self.repeated_keys} rows have the key of an earlier row (kept, told apart by #2, #3, …)")
        return lines


def name_of(benchmark: Benchmark, variant: str, out: Path) -> str:
    """What the dataset is called beside its scores; an exam of one's own (no published n) after its folder."""
    if not any(benchmark.published.values()):
        return out.name
    return benchmark.name if variant == benchmark.default_variant else f"{benchmark.name} {variant}"


def import_benchmark(
    benchmark: Benchmark, source: Path, variant: str, out: Path, on_row: Callable[[], None] | None = None
) -> ImportReport:
    """Write the dataset folder ``out`` of one variant, row by row: of a row that has gone by only hashes are kept.

    ``on_row`` is called after each row, for a progress display: large sets take hours, nearly all of it writing PNG.
    Raises BadInputError for an unknown variant, DataError where the source is not of the format, where ``out`` is
    taken, or where no row at all can be used (its message says why).
    """
    if variant not in benchmark.published:
        raise BadInputError(f"variant {variant!r} of {benchmark.name}", f"one of {', '.join(benchmark.published)}")
    if not source.exists():
        raise DataError(f"{source} does not exist", benchmark.files or f"the files of {benchmark.title}")
    with DatasetWriter(out) as writer:
        tally, intake = Tally(), ImageIntake(writer)
        for row in benchmark.read(source, variant):
            tally.add(
                row if isinstance(row, Refused) else take(benchmark, tally.tell_apart(row), variant, intake, writer)
            )
            if on_row is not None:
                on_row()
        report = tally.report(benchmark, variant)
        if not writer.num_items:
            faults = "; ".join(line.strip() for line in report.lines()[1:])
            raise DataError(
                f"no row of {source} can be used: {faults or 'it has none'}",
                benchmark.files or f"the files of {benchmark.title}",
            )
        writer.seal(
            DatasetCard(
                name=name_of(benchmark, variant, out),
                source=benchmark.source,
                licence=benchmark.licence,
                splits=f"the whole of the published {variant} split is {split_of(variant).value}",
                note=f"{report.count_check()} {benchmark.note}",
                skipped=report.refused,
            )
        )
    return report


def split_of(variant: str) -> Split:
    return Split.TRAIN if variant.startswith("train") else Split.HELD_OUT


class Tally:
    """Counts what was taken and refused; of each row that was taken it keeps two short hashes."""

    def __init__(self) -> None:
        self._kinds, self._refused = Counter[str](), Counter[str]()
        self._first: dict[str, tuple[Refused, ...]] = {}
        self._keys: dict[bytes, int] = {}  # of the source → rows that have it
        self._answers: dict[bytes, bytes] = {}  # content → the first answer to it
        self._repeats = self._conflicts = self._twins = self._repeated_keys = 0

    def tell_apart(self, row: Row) -> Row:
        """The row, under a key that no earlier row has."""
        name = short_hash(row.key)
        count = self._keys[name] = self._keys.get(name, 0) + 1
        if count == 1:
            return row
        self._repeated_keys += 1
        return replace(row, key=f"{row.key}#{count}")

    def add(self, outcome: Item | Refused) -> None:
        if isinstance(outcome, Refused):
            self._refused[outcome.reason] += 1
            shown = self._first.setdefault(outcome.reason, ())
            if len(shown) < SHOWN_REFUSALS:
                self._first[outcome.reason] = (*shown, outcome)
            return
        self._kinds[outcome.answer_kind.value] += 1
        self._twins += has_twin_option(outcome)
        content, answer = short_hash(outcome.content_key), short_hash(outcome.answer)
        first = self._answers.get(content)
        if first is None:
            self._answers[content] = answer
        elif first == answer:
            self._repeats += 1
        else:
            self._conflicts += 1

    def report(self, benchmark: Benchmark, variant: str) -> ImportReport:
        return ImportReport(
            benchmark=benchmark.name,
            variant=variant,
            taken=self._kinds.total(),
            kinds=self._kinds,
            refused=self._refused,
            first_refused=self._first,
            published=benchmark.published[variant],
            repeats=self._repeats,
            conflicts=self._conflicts,
            twin_options=self._twins,
            repeated_keys=self._repeated_keys,
        )


def take(benchmark: Benchmark, row: Row, variant: str, intake: ImageIntake, writer: DatasetWriter) -> Item | Refused:
    """The row's item, which the dataset has now, or why it cannot be one; images of a refused row go again."""
    put: list[str] = []
    outcome = make_item(benchmark, row, variant, intake, put)
    if isinstance(outcome, Refused):
        writer.drop_unused(put)
        return outcome
    clash = writer.add(outcome)
    return outcome if clash is None else Refused(key=row.key, where=row.where, reason=clash.reason, detail=clash.detail)


def make_item(benchmark: Benchmark, row: Row, variant: str, intake: ImageIntake, put: list[str]) -> Item | Refused:
    """The item of a row, or why it cannot be one. ``put`` takes the hashes of the images that were stored for it."""

    def refuse(reason: str, detail: str) -> Refused:
        return Refused(key=row.key, where=row.where, reason=reason, detail=detail)

    if not row.question.strip():
        return refuse("no question", "")
    try:
        for image in row.images:
            put.append(intake.put(image, row.where))
    except DataError as error:
        return refuse("its image cannot be used", str(error))
    media, split = tuple(put), split_of(variant)
    item = Item(
        id=Item.make_id(benchmark.name, split, row.key),
        content_key=Item.make_content_key(row.question, row.options, media),
        source=benchmark.name,
        split=split,
        licence=benchmark.licence,
        cluster=row.cluster or (media[0] if media else row.key),
        patient_id=row.patient_id,
        media=media,
        question=row.question,
        options=row.options,
        answer=row.answer,
        answer_kind=row.answer_kind,
        family=benchmark.family,
        metadata={"row": row.key, **row.metadata},
    )
    try:
        check_item(item)
        finding = judge_answer(item, item.answer)
    except DataError as error:
        return refuse("its gold answer cannot be judged", error.seen)
    if finding.accuracy != 1.0:
        return refuse("its gold answer does not score 1", f"{row.answer[:80]!r}: {finding.rule}")
    return item


def has_twin_option(item: Item) -> bool:
    """Whether an option besides the right one is the same text but for case and loose punctuation."""
    forms = [bare(normal_form(option)) or normal_form(option) for option in item.options]
    return forms.count(bare(normal_form(item.answer)) or normal_form(item.answer)) > 1
