"""Which examples wait for a person, and what a person decided."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from residency.platform.records import short_hash
from residency.platform.report.run_files import read_lines
from residency.platform.synthesis_config import ReviewConfig

DECISIONS = "reviews.jsonl"  # in a run's lineage/
ACCEPT, EDIT, REJECT = "accept", "edit", "reject"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a reviewer said of an example; ``edited_id`` names the example that an edit became."""

    example_id: str
    decision: str
    reviewer: str
    time: str
    comment: str = ""
    edited: str = ""  # the new completion
    edited_id: str = ""

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def is_sampled(example_id: str, share: float, seed: int) -> bool:
    """Whether an example is in the share that is looked at; a higher share keeps those of a lower one."""
    return int(short_hash("review", str(seed), example_id), 16) < share * 2**64


def is_queued(example_id: str, target: str, pattern: str | None, config: Mapping[str, Any], seed: int) -> bool:
    """Whether a person must see this example; ``config`` is the recipe's `synthesis.review`, dumped."""
    classes = config.get("classes") or ()
    return target in classes or pattern in classes or is_sampled(example_id, float(config.get("share") or 0.0), seed)


def queued(pool: pa.Table, config: ReviewConfig, seed: int) -> set[str]:
    """Ids of the examples that a person must see, decided or not."""
    if not config.share and not config.classes:
        return set()
    dumped = config.model_dump()
    columns = (pool.column(name).to_pylist() for name in ("id", "target", "pattern"))
    return {key for key, target, pattern in zip(*columns, strict=True) if is_queued(key, target, pattern, dumped, seed)}


def read_decisions(run: Path) -> dict[str, Decision]:
    """Example → the decision on it; of several the last."""
    rows = read_lines(run / "lineage" / DECISIONS)
    return {row["example_id"]: Decision(**row) for row in rows}


def write_decisions(run: Path, decisions: Iterable[Decision]) -> None:
    """Appends them; a torn last line is passed over by readers."""
    path = run / "lineage" / DECISIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(decision.as_json(), ensure_ascii=False) + "\n" for decision in decisions)


def released(pool: pa.Table, waiting: set[str], decisions: Mapping[str, Decision], edits: pa.Table) -> pa.Table:
    """What may be taught: all that need not wait, what was accepted, and the edits in place of what they edit."""
    gone = {key for key in waiting if key not in decisions or decisions[key].decision != ACCEPT}
    gone |= {key for key, decision in decisions.items() if decision.decision != ACCEPT}
    kept = pool.filter(pa.array([key not in gone for key in pool.column("id").to_pylist()], pa.bool_()))
    return pa.concat_tables([kept, edits]) if edits.num_rows else kept
