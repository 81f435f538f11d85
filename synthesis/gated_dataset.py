"""A dataset → the same without what the gates refuse, what is a copy and what a benchmark has; the evidence beside it.

``<evidence>/gates.csv`` lists refusals and marks, ``<evidence>/duplicates/`` the pairs; a person may overrule both
lists and give them to the next run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.platform.dataset_folder import MEDIA_FOLDER, read_card, stream_items, write_part
from residency.platform.gates_config import DuplicatesConfig, GatesConfig
from residency.platform.media_store import MediaStore
from residency.platform.records import Item
from residency.synthesis.duplicates.checking import Compared, check_duplicates
from residency.synthesis.duplicates.overrules import read_overrules
from residency.synthesis.duplicates.pairs import BENCHMARK_PREFIX
from residency.synthesis.duplicates.report import DuplicateReport
from residency.synthesis.gates import image_necessity, rubric
from residency.synthesis.gates.decision import Gate
from residency.synthesis.gates.gate_list import Overrules, read_gate_overrules
from residency.synthesis.gates.gating import GateTally, kept_items, rule_gates, run_gates
from residency.synthesis.gates.image_necessity import Outcomes

GATES_FILE, DUPLICATES_FOLDER = "gates.csv", "duplicates"
NOT_TRIED = Outcomes((), ())


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherWords:
    """What the gates' teacher said, by item id; None where it was not asked for it."""

    ratings: Mapping[str, str] | None = None
    outcomes: Mapping[str, Outcomes] | None = None


def gates_of(config: GatesConfig, media: MediaStore, words: TeacherWords) -> dict[str, Gate]:
    """The gates that the recipe asks for, in order."""
    gates = rule_gates(media, config.licences, config.rules)
    if (ratings := words.ratings) is not None:
        gates[rubric.GATE] = rubric.rubric_gate(lambda item: ratings.get(item.id, ""))
    if (outcomes := words.outcomes) is not None:
        gates[image_necessity.GATE] = image_necessity.image_necessity_gate(
            lambda item: outcomes.get(item.id, NOT_TRIED)
        )
    return gates


def overrules_of(config: GatesConfig) -> Overrules:
    return read_gate_overrules(Path(config.overrules)) if config.overrules else {}


def kept_by_rules(source: Path, config: GatesConfig) -> set[str]:
    """Ids of the items that no rule refuses: the ones that a teacher need be asked about."""
    gates = gates_of(config, MediaStore(source / MEDIA_FOLDER), TeacherWords())
    gated = run_gates(stream_items(source), gates, GateTally(), overrules_of(config))
    return {each.item.id for each in gated if not each.refused}


def gate_dataset(
    source: Path,
    out: Path,
    evidence: Path,
    gates: GatesConfig | None,
    duplicates: DuplicatesConfig | None,
    benchmarks: Sequence[Path],
    words: TeacherWords,
) -> dict[str, Any]:
    """Write ``out`` and the evidence; returns the summary's ``gates``, ``duplicates`` and ``contamination``.

    Raises DataError where an overrule list is none, or where a split that had items has none left.
    """
    evidence.mkdir(parents=True, exist_ok=True)
    media, name = MediaStore(source / MEDIA_FOLDER), read_card(source).name
    items: Iterable[Item] = stream_items(source)
    tally = GateTally()
    if gates is not None:
        gated = run_gates(items, gates_of(gates, media, words), tally, overrules_of(gates))
        items = kept_items(gated, evidence / GATES_FILE)
    kept = set[str]()
    summary: dict[str, Any] = {}
    skipped: dict[str, int] = {}
    passed = noted(items, kept)
    if duplicates is None:
        for _ in passed:
            pass
    else:
        reviewed = read_overrules(Path(duplicates.overrules)) if duplicates.overrules else {}
        found = check_duplicates(
            Compared(name, passed, media),
            [compared(folder) for folder in benchmarks],
            evidence / DUPLICATES_FOLDER,
            duplicates,
            reviewed,
        )
        kept -= found.dropped
        summary |= told(found)
        if found.dropped:
            skipped["repeats, leaks and conflicts"] = len(found.dropped)
    if gates is not None:
        summary["gates"] = tally.as_json()
        skipped = summary["gates"]["refused"] | skipped
    write_part(out, source, kept, skipped)
    return summary


def noted(items: Iterable[Item], kept: set[str]) -> Iterator[Item]:
    """The items, whose ids are noted as they pass."""
    for item in items:
        kept.add(item.id)
        yield item


def compared(folder: Path) -> Compared:
    return Compared(read_card(folder).name, stream_items(folder), MediaStore(folder / MEDIA_FOLDER))


def told(found: DuplicateReport) -> dict[str, Any]:
    """The report in the few numbers of a summary: within the data, and against each benchmark."""
    document = found.document
    own, against = dict[str, int](), dict[str, dict[str, int]]()
    for side, number in document["items"].items():
        if side.startswith(BENCHMARK_PREFIX):
            against[side.removeprefix(BENCHMARK_PREFIX)] = {"items": number}
    for verdict, first, second, number in document["by_sides"]:
        if first.startswith(BENCHMARK_PREFIX):
            pairs = against[first.removeprefix(BENCHMARK_PREFIX)]
            pairs[verdict] = pairs.get(verdict, 0) + number
        else:
            where = f"{verdict} within {first}" if first == second else f"{verdict} of {first} in {second}"
            own[where] = own.get(where, 0) + number
    summary: dict[str, Any] = {
        "duplicates": {
            "left_out": document["left_out"],
            "decided_by_people": document["decided_by_people"],
            "overrules_without_a_pair": document["overrules_without_a_pair"],
            "pairs": own,
            "pictures": dict(document["pictures"]),
            "thresholds": dict(document["thresholds"]),
        }
    }
    if against:
        summary["contamination"] = {"left_out": document["left_out_for_benchmarks"], "benchmarks": against}
    return summary
