"""What users said of a served model's answers, with their consent → rows: the loop closes.

Only exchanges that their caller rated and let be kept. A right answer is taken as it was given, a wrong one only where
the user said what is right. The gate for identifying information is applied here, before anything becomes an item.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from residency.platform.errors import DataError
from residency.platform.prompts import DIRECT_INSTRUCTION, IMAGE_MARKER, THINK_INSTRUCTION
from residency.platform.serving.clinical_answer import STRUCTURED_INSTRUCTION
from residency.synthesis.benchmarks.importing import Refused
from residency.synthesis.benchmarks.published_files import Record, UnusableRow
from residency.synthesis.gates.identifying_text import identifying
from residency.synthesis.importing.row_reading import expand
from residency.synthesis.importing.source_row import ReadOptions, RowFormat, SourceRow

INSTRUCTIONS = (DIRECT_INSTRUCTION, THINK_INSTRUCTION, STRUCTURED_INSTRUCTION)
HASH = "sha256:"


def read_feedback(source: Path, options: ReadOptions) -> Iterator[SourceRow | Refused]:
    """One row for each exchange that was rated by its own caller; the newest rating counts."""
    del options
    days = sorted(path for path in source.glob("????-??-??") if path.is_dir())
    if not days:
        raise DataError(f"{source} has no day's folder", "the feedback folder of a server (serving/feedback)")
    ratings: dict[tuple[str, str], dict[str, Any]] = {}
    for _, line in lines(days, "ratings"):
        ratings[line["key"], line["request_id"]] = line
    yield from expand(records(days, ratings), build_row)


def lines(days: Sequence[Path], what: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(day's folder, line) of all files of a kind; a line that a dying writer left half is passed by."""
    for day in days:
        for file in sorted(day.glob(f"{what}-*.jsonl")):
            for text in file.read_text().splitlines():
                try:
                    yield day, json.loads(text)
                except ValueError:
                    continue


def records(days: Sequence[Path], ratings: dict[tuple[str, str], dict[str, Any]]) -> Iterator[Record]:
    """The exchanges with their ratings."""
    for number, (day, exchange) in enumerate(lines(days, "exchanges"), 1):
        rating = ratings.get((exchange["key"], exchange["request_id"]))
        if rating is not None:
            where = f"{day.name} {exchange['request_id']}"
            yield Record(number=number, where=where, fields={**exchange, "day": day, "rated": rating})


def build_row(record: Record) -> Sequence[SourceRow]:
    fields = record.fields
    question, images = question_of(fields["messages"], fields["day"] / "media")
    rating = fields["rated"]
    answer = rating.get("corrected_answer") or (fields["answer"] if rating["rating"] == "right" else "")
    if not answer:
        raise UnusableRow("nobody said what the right answer is", rating["rating"])
    for place, text in (("question", question), ("answer", answer)):
        found = next(identifying(text), None)
        if found is not None:
            raise UnusableRow("it identifies somebody", f"{found.kind} in the {place}")
    by = {"rating": rating["rating"], "corrected": "corrected_answer" in rating}
    row = SourceRow(
        key=fields["request_id"],
        where=record.where,
        question=question,
        answer=answer,
        images=images,
        metadata={"feedback": {**by, "model": fields["model"], "version": fields["version"]}},
    )
    return [row]


def question_of(messages: Sequence[dict[str, Any]], media: Path) -> tuple[str, tuple[Path, ...]]:
    """The question of a chat of one turn, without the server's instruction, and its images."""
    asked = [message for message in messages if message["role"] == "user"]
    if len(asked) != 1 or any(message["role"] == "assistant" for message in messages):
        raise UnusableRow("the chat has more than one turn", f"{len(messages)} messages")
    content = asked[0]["content"]
    texts: list[str] = []
    images: list[Path] = []
    parts: Sequence[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        if part["type"] == "text":
            texts.append(part["text"])
            continue
        key = part["image_url"]["url"].removeprefix(HASH)
        images.append(media / key[:2] / key[2:4] / f"{key}.png")
    if absent := [image for image in images if not image.is_file()]:
        raise UnusableRow("its image was not kept", absent[0].stem[:12])
    text = "\n".join(texts).replace(IMAGE_MARKER, " ").strip()
    for instruction in INSTRUCTIONS:
        text = text.removesuffix(instruction).strip()
    return text, tuple(images)


FEEDBACK = RowFormat(
    name="feedback",
    description="rated and corrected answers of a served model, kept with consent; identifying ones are refused",
    files="the feedback folder of `residency serve --feedback-days`",
    fields=(),
    options=frozenset(),
    read=read_feedback,
)
