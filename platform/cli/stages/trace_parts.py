"""Verdicts beside the token-level traces of synthesis and gates: the ledger's, in the form of every other stage."""

import re

import pyarrow as pa

from residency.platform.arrow_tables import to_table
from residency.platform.cli.stages.asking import FOLDERS
from residency.platform.records import Status, Verdict
from residency.platform.run_folder import RunFolder
from residency.synthesis.pipeline.traces import read_verdicts

PART = re.compile(r"part-(?P<purpose>(?:synthesize|gate)-.+)-(?P<number>\d{5})\.arrow")


def write_verdict_parts(run: RunFolder) -> None:
    """One part for each part of traces. A trace that a kill left in two parts stays in the first."""
    verdicts = {v.trace_id: v for folder in FOLDERS.values() for v in read_verdicts(run.path / folder)}
    seen = set[str]()
    for path in sorted((run.path / "traces").glob("part-*.arrow")):
        if (found := PART.fullmatch(path.name)) is None:
            continue
        purpose, number = found["purpose"], int(found["number"])
        traces = run.read_part("traces", purpose, number)
        ids = traces.column("id").to_pylist()
        fresh = [first_time(seen, key) for key in ids]
        if not all(fresh):
            traces = traces.filter(pa.array(fresh, pa.bool_()))
            run.write_part("traces", purpose, number, traces)
        judged = [verdicts.get(key) or undecided(key) for key in traces.column("id").to_pylist()]
        run.write_part("verdicts", purpose, number, to_table(judged, Verdict))


def first_time(seen: set[str], key: str) -> bool:
    """Whether this is the first time; notes it."""
    is_first = key not in seen
    seen.add(key)
    return is_first


def undecided(trace_id: str) -> Verdict:
    """Of a trace whose item came to no end: another request of it is a dead letter."""
    return Verdict(
        trace_id=trace_id, status=Status.ERROR, score=None, evidence="its item waits with a dead letter",
        verifier="ledger", verifier_version="1",
    )  # fmt: skip
