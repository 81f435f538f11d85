"""Answers on disk: what each teacher said, before it counts."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from residency.synthesis.pipeline.arrow_log import read_batch, read_part
from residency.synthesis.teachers.budget import Spent
from residency.synthesis.teachers.teacher import TeacherReply

ANSWERS = "answers"
S, N, F = pa.string(), pa.int64(), pa.float64()
ANSWER_SCHEMA = pa.schema(
    [
        ("key", S),
        ("text", S),
        ("finish_reason", S),
        ("tokens_in", N),
        ("tokens_out", N),
        ("cost", F),
        ("seconds", F),
        ("model", S),
        ("revision", S),
        ("attempts", pa.int32()),
        ("fault", S),
        ("at", F),  # when it was written (seconds since the epoch)
        ("working_seconds", F),  # how long this start had been at work by then
    ],
    metadata={"record": "Answer", "schema_version": "1"},
)
REPLY_FIELDS = ANSWER_SCHEMA.names[1:11]


def answers_batch(rows: Sequence[tuple[str, TeacherReply]], working_seconds: float) -> pa.RecordBatch:
    """(key, reply) rows as a batch."""
    replies = [reply for _, reply in rows]
    columns: list[Sequence[object]] = [[key for key, _ in rows]]
    columns += [[getattr(reply, name) for reply in replies] for name in REPLY_FIELDS]
    columns += [[time.time()] * len(rows), [working_seconds] * len(rows)]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, ANSWER_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=ANSWER_SCHEMA)


def read_answers(folder: Path, wanted: Iterable[tuple[str, str]]) -> dict[str, TeacherReply]:
    """Key → reply, for (key, reference) pairs of the journal; raises StorageError where one is gone."""
    by_reference: dict[str, set[str]] = {}
    for key, reference in wanted:
        by_reference.setdefault(reference, set()).add(key)
    found = {}
    for reference, keys in by_reference.items():
        for row in read_batch(folder, reference, ANSWER_SCHEMA).to_pylist():
            if row["key"] in keys:
                found[row["key"]] = TeacherReply(**{name: row[name] for name in REPLY_FIELDS})
    return found


def spent_before(*folders: Path) -> Spent:
    """What all earlier starts spent, by their answers (an answer that was lost in a kill is not known)."""
    spent, latest = Spent(), dict[tuple[Path, str], float]()
    for folder in folders:
        for path in sorted(folder.glob(f"{ANSWERS}-*")):
            life = (folder, path.name.split("-")[1])
            for batch in read_part(path):
                spent.tokens_in += sum(batch.column("tokens_in").to_pylist())
                spent.tokens_out += sum(batch.column("tokens_out").to_pylist())
                spent.money += sum(batch.column("cost").to_pylist())
                latest[life] = max(latest.get(life, 0.0), batch.column("working_seconds")[-1].as_py())
    spent.seconds = sum(latest.values())
    return spent
