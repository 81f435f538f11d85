"""The list of pairs that a person may overrule: a CSV with everything one needs to judge, read back when it was
edited."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from residency.platform.errors import DataError
from residency.synthesis.duplicates.pairs import Decision, Pair

COLUMNS = (
    "pair_id", "decision", "reviewer", "verdict", "agreements", "similarity", "hash_distance",
    "first_side", "first", "first_question", "first_answer",
    "second_side", "second", "second_question", "second_answer",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Overrule:
    """A person's decision on one pair."""

    pair_id: str
    decision: Decision
    reviewer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A pair with what its items say, for the eyes of a reviewer."""

    pair: Pair
    first_question: str
    first_answer: str
    second_question: str
    second_answer: str


def write_review_list(path: Path, listed: Iterable[Listed], reviewed: Mapping[str, Overrule]) -> Iterator[Listed]:
    """Write the CSV while the pairs pass through; ``decision`` holds what happens if nobody writes a ``reviewer``.

    Pairs that a person has decided stand there with the reviewer, so the file can be given again as it is.
    """
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in listed:
            pair = row.pair
            known = reviewed.get(pair.id)
            values = (
                pair.id, pair.decision, known.reviewer if known else "", pair.verdict, " ".join(pair.agreements),
                f"{pair.similarity:.2f}", "" if pair.hash_distance is None else pair.hash_distance,
                pair.first_side, pair.first, row.first_question, row.first_answer,
                pair.second_side, pair.second, row.second_question, row.second_answer,
            )  # fmt: skip
            writer.writerow([harmless(str(value)) for value in values])
            yield row
    aside.replace(path)


def harmless(cell: str) -> str:
    """A cell that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(cell) else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_overrules(path: Path) -> dict[str, Overrule]:
    """Decisions by pair id, of a CSV (rows with a ``reviewer``) or of JSONL with pair_id, decision and reviewer.

    Raises DataError, naming the line, for a decision that is none, or two decisions on one pair that differ.
    """
    found: dict[str, Overrule] = {}
    for line, row in _rows(path):
        reviewer = str(row.get("reviewer") or "").strip()
        key, word = str(row.get("pair_id") or "").strip(), str(row.get("decision") or "").strip().lower()
        if path.suffix.lower() == ".csv" and not reviewer:
            continue  # nobody has touched this row
        if not key or not reviewer or word not in set(Decision):
            raise DataError(
                f"line {line} of {path.name}: pair_id {key!r}, decision {word!r}, reviewer {reviewer!r}",
                f"a pair's id, one of {', '.join(Decision)}, and who decided",
                "mend the line, or leave its reviewer empty",
            )
        overrule = Overrule(pair_id=key, decision=Decision(word), reviewer=reviewer)
        if found.setdefault(key, overrule).decision != overrule.decision:
            raise DataError(
                f"line {line} of {path.name} decides {word!r} on {key}, an earlier one {found[key].decision!r}",
                "one decision on a pair",
            )
    return found


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file)
                missing = {"pair_id", "decision", "reviewer"} - set(reader.fieldnames or ())
                if missing:
                    raise DataError(f"{path.name} lacks the columns {sorted(missing)}", f"the columns {COLUMNS}")
                for row in reader:
                    yield reader.line_num, row
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _object(line, number, path)
    except FileNotFoundError:
        raise DataError(f"the review list {path} does not exist", "a CSV or JSONL file", "leave it out") from None


def _object(line: str, number: int, path: Path) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"line {number} of {path.name} is no JSON ({error.msg})", "one object a line") from None
    if not isinstance(value, dict):
        raise DataError(f"line {number} of {path.name} is no object", "one object a line")
    return value
