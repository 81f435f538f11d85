"""Drafts: questions that could become items, and the choice among them that keeps the answers balanced."""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from residency.platform.errors import DataError
from residency.platform.media_store import media_hash
from residency.platform.records import AnswerKind, Family, Item, Split
from residency.synthesis.facts import check_facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A question with its answer before its picture is rendered.

    ``picture`` is the key of its picture (None for text). ``balance_by`` is what must occur equally often within the
    task: mostly the answer.
    """

    task: str
    family: Family
    question: str
    options: tuple[str, ...] = ()
    answer: str
    answer_kind: AnswerKind
    facts: Mapping[str, str]
    annotations: Mapping[str, Any] = field(default_factory=dict)
    cluster: str
    row_key: str
    picture: str | None = None
    licence: str | None = None
    balance_by: str


def interleave_clusters(drafts: Iterable[Draft], rng: random.Random) -> list[Draft]:
    """Shuffled, then one of each cluster in turn, so that a short prefix spreads over as many clusters as there are."""
    by_cluster: dict[str, list[Draft]] = defaultdict(list)
    for draft in sorted(drafts, key=lambda draft: draft.row_key):
        by_cluster[draft.cluster].append(draft)
    queues = [by_cluster[cluster] for cluster in sorted(by_cluster)]
    rng.shuffle(queues)
    for queue in queues:
        rng.shuffle(queue)
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def allot(total: int, shares: Mapping[str, float], capacity: Mapping[str, int]) -> dict[str, int]:
    """Rows for each task: by its share, at most its capacity; what a full task leaves goes to the others by share.

    ``allot(10, {"a": 0.5, "b": 0.5}, {"a": 2, "b": 20}) == {"a": 2, "b": 8}``
    """
    rows = dict.fromkeys(shares, 0)
    left = min(total, sum(capacity.get(task, 0) for task in shares))
    while left > 0:
        open_tasks = [task for task in shares if rows[task] < capacity.get(task, 0)]
        weight = sum(shares[task] for task in open_tasks)
        given = 0
        for task in sorted(open_tasks, key=lambda task: (-shares[task], task)):
            more = min(max(1, int(left * shares[task] / weight)), capacity.get(task, 0) - rows[task], left - given)
            rows[task] += more
            given += more
        left -= given
    return rows


def choose_balanced(
    drafts: Sequence[Draft], total: int, shares: Mapping[str, float], rng: random.Random
) -> list[Draft]:
    """At most ``total`` drafts: tasks by their shares, within a task every ``balance_by`` equally often (to one row).

    Fewer come back where a rare answer has not enough drafts: balance goes before number. Raises DataError where a
    task of the shares has none at all.
    """
    by_task: dict[str, dict[str, list[Draft]]] = defaultdict(lambda: defaultdict(list))
    for draft in drafts:
        by_task[draft.task][draft.balance_by].append(draft)
    empty = sorted(set(shares) - set(by_task))
    if empty:
        raise DataError(f"no question could be made for {', '.join(empty)}", "", "give more, or larger, pictures")
    capacity = {task: len(answers) * min(len(rows) for rows in answers.values()) for task, answers in by_task.items()}
    chosen: list[Draft] = []
    for task, rows in sorted(allot(total, shares, capacity).items()):
        answers = sorted(by_task[task])
        rng.shuffle(answers)
        for rank, answer in enumerate(answers):
            wanted = rows // len(answers) + (rank < rows % len(answers))
            chosen.extend(interleave_clusters(by_task[task][answer], rng)[:wanted])
    rng.shuffle(chosen)
    return chosen


def make_items(
    drafts: Iterable[Draft], *, source: str, split: Split, licence: str, pngs: Mapping[str, bytes]
) -> list[Item]:
    """Drafts → items of one split; ``pngs`` holds the rendered pictures by key. Facts are checked against the task."""
    hashes = {key: media_hash(png) for key, png in pngs.items()}
    items = []
    for draft in drafts:
        check_facts(draft.task, draft.facts)
        media = () if draft.picture is None else (hashes[draft.picture],)
        items.append(
            Item(
                id=Item.make_id(source, split, draft.row_key),
                content_key=Item.make_content_key(draft.question, draft.options, media),
                source=source,
                split=split,
                licence=draft.licence or licence,
                cluster=draft.cluster,
                media=media,
                question=draft.question,
                options=draft.options,
                answer=draft.answer,
                answer_kind=draft.answer_kind,
                family=draft.family,
                metadata={"task": draft.task, "facts": dict(draft.facts), **draft.annotations},
            )
        )
    return items
