"""The report on duplicates and contamination: what was compared, what was found by which evidence, what follows."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residency.platform.gates_config import DuplicatesConfig
from residency.synthesis.duplicates.overrules import Listed
from residency.synthesis.duplicates.pairs import BENCHMARK_PREFIX, PairVerdict
from residency.synthesis.duplicates.question_form import MIN_LONG

SHOWN = 3  # pairs of each verdict in the report
MEANINGS = {
    PairVerdict.LEAK: "the same question in a benchmark or in a stricter split; the item is left out",
    PairVerdict.DUPLICATE: "asked and answered alike before, in the same split; the later is left out, or both stay",
    PairVerdict.CONFLICT: "the same question with another answer; both are left out until a person decides",
    PairVerdict.PATIENT_OVERLAP: "the same patient on the stricter side of a split; the item is left out",
    PairVerdict.SAME_IMAGE: "a picture of the other side with another question; kept",
}


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """``dropped`` are ids of items to leave out; ``document`` is what ``report.json`` says."""

    dropped: frozenset[str]
    document: Mapping[str, Any]


@dataclass(slots=True)
class Tally:
    """Counts of the pairs that passed."""

    verdicts: Counter[str] = field(default_factory=Counter)
    sides: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    evidence: Counter[tuple[str, str]] = field(default_factory=Counter)
    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)
    shown: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    contaminated: set[str] = field(default_factory=set)  # of these, what a benchmark has
    ids: set[str] = field(default_factory=set)  # of pairs that a person decided

    def add(self, listed: Listed, by_a_person: bool) -> None:
        pair = listed.pair
        self.verdicts[pair.verdict] += 1
        self.sides[pair.verdict, pair.first_side, pair.second_side] += 1
        self.evidence[pair.verdict, " + ".join(pair.agreements)] += 1
        self.decisions[pair.verdict, pair.decision] += 1
        self.dropped.update(pair.dropped())
        if pair.first_side.startswith(BENCHMARK_PREFIX):
            self.contaminated.update(pair.dropped())
        if by_a_person:
            self.ids.add(pair.id)
        shown = self.shown.setdefault(pair.verdict, [])
        if len(shown) < SHOWN:
            shown.append(
                {
                    "pair_id": pair.id,
                    "first": [pair.first_side, pair.first, listed.first_question, listed.first_answer],
                    "second": [pair.second_side, pair.second, listed.second_question, listed.second_answer],
                    "agreements": list(pair.agreements),
                    "similarity": round(pair.similarity, 3),
                    "hash_distance": pair.hash_distance,
                }
            )


def write_report(
    out: Path,
    tally: Tally,
    name: str,
    sides: Mapping[str, int],
    pictures: Mapping[str, int],
    same_image_rows: int,
    unknown_overrules: int,
    config: DuplicatesConfig,
) -> DuplicateReport:
    """Write ``report.json`` and ``report.md``; ``unknown_overrules`` are decisions on pairs that no longer exist."""
    document = {
        "dataset": name,
        "items": dict(sides),
        "pictures": dict(pictures),
        "verdicts": {verdict.value: tally.verdicts[verdict] for verdict in PairVerdict},
        "by_sides": [[*key, count] for key, count in sorted(tally.sides.items())],
        "by_evidence": [[*key, count] for key, count in tally.evidence.most_common()],
        "decisions": [[*key, count] for key, count in sorted(tally.decisions.items())],
        "items_about_an_earlier_picture": same_image_rows,
        "left_out": len(tally.dropped),
        "left_out_for_benchmarks": len(tally.contaminated),
        "decided_by_people": len(tally.ids),
        "overrules_without_a_pair": unknown_overrules,
        "thresholds": {
            "hash_distance_bits": config.hash_distance,
            "picture_residual": config.picture_residual,
            "question_similarity": config.question_similarity,
            "question_similarity_yes_no": 1.0,
            "question_similarity_long": MIN_LONG,
        },
        "examples": tally.shown,
    }
    (out / "report.json").write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    (out / "report.md").write_text(_markdown(document))
    return DuplicateReport(frozenset(tally.dropped), document)


def _cell(text: Any) -> str:
    plain = " ".join(str(text).split()).replace("|", "\\|")
    return plain if len(plain) <= 80 else plain[:79] + "…"


def _markdown(document: Mapping[str, Any]) -> str:
    pictures = document["pictures"]
    lines = [
        f"# Duplicates and contamination: {document['dataset']}",
        "",
        "Compared: " + ", ".join(f"{count:,} items of {side}" for side, count in document["items"].items()) + ".",
        f"{pictures['distinct']:,} picture files, {pictures['after_copies']:,} pictures once copies are put together"
        f" ({pictures['near_pairs']:,} near pairs; {pictures['unreadable']:,} could not be read).",
        "",
        f"**{document['left_out']:,} items are left out.**"
        f" {document['decided_by_people']:,} pairs were decided by people.",
    ]
    if document["overrules_without_a_pair"]:
        lines.append(f"{document['overrules_without_a_pair']:,} decisions name pairs that are no longer found.")
    lines += ["", "| verdict | pairs | meaning |", "|---|--:|---|"]
    lines += [f"| {v.value} | {document['verdicts'][v.value]:,} | {MEANINGS[v]} |" for v in PairVerdict]
    for title, key, head in (
        ("Where", "by_sides", "| verdict | stays | is compared | pairs |"),
        ("Evidence", "by_evidence", "| verdict | what agrees | pairs |"),
    ):
        lines += ["", f"## {title}", "", head, "|---" * (head.count("|") - 2) + "|--:|"]
        lines += ["| " + " | ".join(map(_cell, row[:-1])) + f" | {row[-1]:,} |" for row in document[key]]
    lines += ["", "## Examples", "", "| verdict | pair | stays | is compared |", "|---|---|---|---|"]
    for verdict, examples in document["examples"].items():
        for each in examples:
            first, second = (f"{_cell(each[k][2])} → {_cell(each[k][3])}" for k in ("first", "second"))
            lines.append(f"| {verdict} | {each['pair_id']} | {first} | {second} |")
    lines += [
        "",
        "Thresholds: " + ", ".join(f"{key} {value}" for key, value in document["thresholds"].items()) + ".",
        "",
    ]
    return "\n".join(lines)
