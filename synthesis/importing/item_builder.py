"""A row → an item whose gold answer its own verifier gives 1, or the reason why it cannot be one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from residency.platform.errors import DataError
from residency.platform.prompts import IMAGE_MARKER, render_prompt
from residency.platform.records import AnswerKind, Family, Item, PromptMode
from residency.platform.verifiers.rules import check_item, judge_answer
from residency.synthesis.benchmarks.gold_answers import free_answer
from residency.synthesis.benchmarks.pictures import ImageIntake
from residency.synthesis.benchmarks.published_files import UnusableRow
from residency.synthesis.benchmarks.text_rows import check_options
from residency.synthesis.importing.chat_rows import plain_prompt
from residency.synthesis.importing.source_row import SourceRow
from residency.synthesis.importing.splits import SplitPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportSettings:
    """What is said of a whole import. ``family`` is found by the presence of images where it is None."""

    name: str
    licence: str
    plan: SplitPlan
    family: Family | None = None


def build_item(row: SourceRow, settings: ImportSettings, intake: ImageIntake, put: list[str]) -> Item:
    """The item; raises UnusableRow with the reason. ``put`` takes the hashes of the images that were stored for it."""
    check_text(row)
    kind, answer = answer_of(row)
    check_markers(row.question, len(row.images))
    for image in row.images:
        try:
            put.append(intake.put(image, row.where))
        except DataError as error:
            raise UnusableRow("its image cannot be used", error.seen) from error
    media = tuple(put)
    if row.restored is not None and is_itself(row.restored, row, media):
        item = row.restored
    else:
        content_key = Item.make_content_key(row.question, row.options, media)
        unit = row.patient_id or row.unit or (media[0] if media else content_key)
        split = settings.plan.split_of(unit, row.split)
        item = Item(
            id=Item.make_id(settings.name, split, row.key),
            content_key=content_key,
            source=settings.name,
            split=split,
            licence=row.licence or settings.licence,
            cluster=unit,
            patient_id=row.patient_id,
            media=media,
            question=row.question,
            options=row.options,
            answer=answer,
            answer_kind=kind,
            family=settings.family or (Family.MEDICAL_MULTIMODAL if media else Family.TEXTUAL_REASONING),
            metadata={"row": row.key, **row.metadata},
        )
    check_gold(item)
    return item


def check_text(row: SourceRow) -> None:
    """Raise UnusableRow for an empty question or answer, or for text that no file can hold (half a UTF-16 pair)."""
    if not row.question.replace(IMAGE_MARKER, "").strip():
        raise UnusableRow("no question")
    if not row.answer.strip():
        raise UnusableRow("no answer")
    try:
        written = [row.key, row.question, row.options, row.answer, row.patient_id, row.licence, dict(row.metadata)]
        json.dumps(written, ensure_ascii=False, allow_nan=False).encode()
    except (UnicodeEncodeError, ValueError, TypeError) as error:
        raise UnusableRow("its text or facts cannot be written down", str(error)[:120]) from error


def answer_of(row: SourceRow) -> tuple[AnswerKind, str]:
    """Kind and gold answer: as the row says, else choice where it has options, else by the answer's form."""
    if row.options and row.answer_kind in (None, AnswerKind.CHOICE):
        check_options(row.options)
        return AnswerKind.CHOICE, row.answer
    answer, kind = free_answer(row.answer)
    if row.answer_kind is None:
        return kind, answer
    return row.answer_kind, answer if row.answer_kind is AnswerKind.YES_NO else row.answer


def check_markers(question: str, num_images: int) -> None:
    """Raise UnusableRow where image markers stand in the text and are not as many as the images."""
    markers = question.count(IMAGE_MARKER)
    if markers and markers != num_images:
        raise UnusableRow("its image markers and its images are not as many", f"{markers} markers, {num_images} images")


def is_itself(item: Item, row: SourceRow, media: tuple[str, ...]) -> bool:
    """Whether the row still asks what our export wrote for this item; whoever edits a row makes it another one."""
    asked = plain_prompt(render_prompt(item, PromptMode.DIRECT))
    return row.question == asked and row.answer.strip() == item.answer.strip() and media == item.media


def check_gold(item: Item) -> None:
    """Raise UnusableRow where the gold answer cannot be judged, or its own verifier does not give it 1."""
    try:
        check_item(item)
        finding = judge_answer(item, item.answer)
    except DataError as error:
        raise UnusableRow("its gold answer cannot be judged", error.seen[:160]) from error
    if finding.accuracy != 1.0:
        raise UnusableRow("its gold answer does not score 1", f"{item.answer[:80]!r}: {finding.rule}")


def fact(value: Any) -> Any:
    """A cell as a metadata value: what JSON cannot hold is written as text."""
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


def facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of what the row says, without what it leaves empty."""
    return {name: fact(value) for name, value in values.items() if value not in (None, "", [], ())}
