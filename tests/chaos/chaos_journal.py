"""What a finished chaos run came to, read from the bytes of its journal by code of its own.

No class of `platform/journal` is used here: a fault in its reader or in its state would hide itself.
"""

import hashlib
import json
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

Record = list[Any]  # tag, then the fields in their order
MAGIC, HEADER = b"RESJRN1\n", struct.Struct("<4sIQdI")
CHECKED_BYTES = HEADER.size - 4
LEARNER = "rl"


class JournalDamage(Exception):
    """The bytes are not those of a whole journal."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """The steps behind the last weights, each with its groups, and what became of every group in the end."""

    steps: list[tuple[int, int, tuple[str, ...]]]  # incarnation, step, keys
    dropped: dict[str, str]  # key → reason
    scores: dict[str, list[float | None]]
    parts: dict[str, str]  # key → the part that holds its traces
    admitted: set[str]
    lives: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``faults`` says in words what must not be. ``state`` is the digest of the final weights."""

    due: int
    trained: int
    dropped: int
    lost: int
    doubled: int
    steps: int
    lives: int
    state: str
    faults: tuple[str, ...] = field(default=())


def records(journal: Path) -> Iterator[Record]:
    """Every record of every whole commit; only the last segment may end torn."""
    segments, due = sorted(journal.glob("segment-*.log")), 0
    for path in segments:
        data, seal = path.read_bytes(), path.with_suffix(".seal")
        if seal.exists():
            data = data[: json.loads(seal.read_text())["num_bytes"]]
        if data[: len(MAGIC)] != MAGIC[: len(data)]:
            raise JournalDamage(f"{path.name} begins with {data[:8]!r}")
        at = len(MAGIC)
        while at + HEADER.size <= len(data):
            _, length, first, _, crc = HEADER.unpack_from(data, at)
            payload = data[at + HEADER.size : at + HEADER.size + length]
            if len(payload) < length or zlib.crc32(payload, zlib.crc32(data[at : at + CHECKED_BYTES])) != crc:
                break
            if first != due:
                raise JournalDamage(f"{path.name} holds record {first} where {due} is due")
            commit = msgspec.msgpack.decode(payload)
            yield from commit
            due, at = due + len(commit), at + HEADER.size + length
        if at < len(data) and (seal.exists() or path != segments[-1]):
            raise JournalDamage(f"{path.name} is not whole: {len(data) - at} bytes behind its last commit")


def read_line(journal: Path) -> Line:
    """The ancestry of the last weights, and what was said of each group."""
    steps: dict[int, list[tuple[int, tuple[str, ...]]]] = {}  # incarnation → its steps
    parents: dict[int, tuple[int, int]] = {}
    dropped, scores, parts = dict[str, str](), dict[str, list[float | None]](), dict[str, str]()
    admitted, lives, incarnation = set[str](), 0, 0
    for tag, *fields in records(journal):
        if tag == "opened":
            lives += 1
        elif tag == "admitted":
            admitted.add(fields[0])
        elif tag == "answered":
            parts[fields[0]] = fields[2][0]
        elif tag == "judged":
            scores[fields[0]] = fields[1]
        elif tag == "dropped":
            dropped[fields[0]] = fields[1]
        elif tag == "trained" and fields[3] == LEARNER:
            keys, incarnation, step, _ = fields
            steps.setdefault(incarnation, []).append((step, tuple(keys)))
        elif tag == "restored" and fields[3] == LEARNER:
            incarnation, *parent, _ = fields
            parents[incarnation] = (parent[0], parent[1])
    line: list[tuple[int, int, tuple[str, ...]]] = []
    most = max((step for step, _ in steps.get(incarnation, [])), default=parents.get(incarnation, (0, 0))[1])
    while True:
        line += [(incarnation, step, keys) for step, keys in reversed(steps.get(incarnation, [])) if step <= most]
        if incarnation not in parents:
            break
        incarnation, most = parents[incarnation]
    return Line(steps=line[::-1], dropped=dropped, scores=scores, parts=parts, admitted=admitted, lives=lives)


def table_of(run: Path, name: str) -> pa.Table | None:
    """A part of traces, or None where it cannot be read whole."""
    try:
        with pa.memory_map(str(run / name)) as source:
            return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowInvalid):
        return None


def check(run: Path, due: Sequence[str], num_steps: int, group_size: int, final: str = "rl") -> Verdict:
    """Everything against everything: the journal, the traces, and what the weights say they were trained on."""
    line = read_line(run / "journal")
    trained = Counter(key for _, _, keys in line.steps for key in keys)
    faults = [f"{key} is lost" for key in due if not trained[key] and key not in line.dropped]
    faults += [f"{key} is in {number} steps" for key, number in trained.items() if number > 1]
    faults += [f"{key} was dropped, and trained on" for key in trained.keys() & line.dropped.keys()]
    faults += [f"{key} was never due" for key in sorted((trained.keys() | groups_of(line.admitted)) - set(due))]
    faults += [
        f"{key} was dropped as {reason} with the rewards {line.scores.get(key)}"
        for key, reason in line.dropped.items()
        if key in set(due) and len(set(line.scores.get(key, [0.0, 1.0]))) > 1
    ]
    numbers = [step for _, step, _ in line.steps]
    if numbers != list(range(1, num_steps + 1)):
        faults.append(f"the steps behind the final weights are {numbers}")
    faults += misplaced(line) + bad_traces(run, line, trained, group_size) + unlike_taught(run, line, final)
    weights = run / "checkpoints" / final / "model.safetensors"
    return Verdict(
        due=len(due),
        trained=len(trained),
        dropped=len(line.dropped.keys() & set(due)),
        lost=sum(not trained[key] and key not in line.dropped for key in due),
        doubled=sum(number > 1 for number in trained.values()),
        steps=len(numbers),
        lives=line.lives,
        state=hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "",
        faults=tuple(faults),
    )


def groups_of(keys: set[str]) -> set[str]:
    return {key for key in keys if re.match(r"rl-\d{4}/", key)}


def misplaced(line: Line) -> list[str]:
    """Synchronous: the groups of call n are those of step n + 1, whatever died."""
    return [
        f"{key} was trained on in step {step}"
        for _, step, keys in line.steps
        for key in keys
        if int(key.split("/")[0].removeprefix("rl-")) != step - 1
    ]


def bad_traces(run: Path, line: Line, trained: Counter[str], group_size: int) -> list[str]:
    """Each group trained on has its traces on disk, all sampled by the weights that the step began with."""
    faults, tables = [], dict[str, pa.Table | None]()
    for key in trained:
        name = line.parts.get(key, "")
        table = tables.setdefault(name, table_of(run, name))
        if table is None:
            faults.append(f"the traces of {key} cannot be read")
            continue
        rows = [row for row, item in enumerate(table.column("item_id").to_pylist()) if item == key.split("/")[1]]
        wanted = int(key.split("/")[0].removeprefix("rl-"))
        sampled = {version & 0xFFFFFFFF for row in rows for version in table.column("policy_versions")[row].as_py()}
        if len(rows) != group_size:
            faults.append(f"{key} has {len(rows)} traces")
        if sampled - {wanted}:
            faults.append(f"{key} was sampled by the weights of the steps {sorted(sampled)}")
    return faults


def unlike_taught(run: Path, line: Line, final: str) -> list[str]:
    """Where the final weights remember what they were trained on (the stand-in): is it what the journal says?"""
    path = run / "checkpoints" / final / "taught.json"
    if not path.is_file():
        return []
    remembered = {step: sorted(rows) for step, rows in json.loads(path.read_text())}
    faults = []
    for _, step, keys in line.steps:
        ids = []
        for key in keys:
            table = table_of(run, line.parts[key])
            if table is not None:
                pairs = zip(table.column("item_id").to_pylist(), table.column("id").to_pylist(), strict=True)
                ids += [trace for item, trace in pairs if item == key.split("/")[1]]
        if remembered.pop(step, []) != sorted(ids):
            faults.append(f"the weights were not trained on the groups that the journal has for step {step}")
    return faults + [f"the weights were trained in a step {step} that the journal lacks" for step in remembered]
