"""Which prompts reinforcement learning draws: by pass counts of the checkpoint it starts from, the middle favoured."""

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from residency.platform.errors import DataError
from residency.platform.records import Status, Trace, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class PassCount:
    """How many of an item's judged samples were right; samples that our own faults left unjudged are not counted."""

    item_id: str
    right: int
    samples: int

    @property
    def rate(self) -> float:
        return self.right / self.samples if self.samples else 0.0


def count_passes(traces: Iterable[Trace], verdicts: Iterable[Verdict]) -> list[PassCount]:
    """One PassCount an item, in the order in which items first appear among the traces.

    An abstention is a wrong sample; error and timeout are our failure, and a trace without a verdict is not counted.
    """
    by_trace = {verdict.trace_id: verdict for verdict in verdicts}
    right: dict[str, int] = {}
    samples: dict[str, int] = {}
    for trace in traces:
        right.setdefault(trace.item_id, 0)
        samples.setdefault(trace.item_id, 0)
        verdict = by_trace.get(trace.id)
        if verdict is None or verdict.status in (Status.ERROR, Status.TIMEOUT):
            continue
        samples[trace.item_id] += 1
        right[trace.item_id] += verdict.parts.get("accuracy", 0.0) == 1.0
    return [PassCount(item_id=item_id, right=right[item_id], samples=samples[item_id]) for item_id in samples]


def draw_weighted(counts: Sequence[PassCount], number: int, rng: random.Random) -> list[str]:
    """``number`` distinct item ids, drawn without replacement with weight p(1 − p) (Efraimidis–Spirakis keys)."""
    keyed = sorted(counts, key=lambda count: rng.random() ** (1 / (count.rate * (1 - count.rate))), reverse=True)
    return [count.item_id for count in keyed[:number]]


def choose_set(pass_counts: Sequence[PassCount], number: int, keep_easy: float, rng: random.Random) -> list[str]:
    """At most ``number`` different item ids, the middle favoured by p(1 − p), at most ``keep_easy`` always right."""
    ordered = sorted(pass_counts, key=lambda count: count.item_id)
    middle = [count for count in ordered if 0 < count.right < count.samples]
    easy = [count for count in ordered if 0 < count.samples == count.right]
    easy_ids = [count.item_id for count in rng.sample(easy, min(len(easy), int(keep_easy * number)))]
    return [*draw_weighted(middle, number - len(easy_ids), rng), *easy_ids]


def choose_prompts(
    pass_counts: Sequence[PassCount],
    number: int,
    keep_easy: float,
    seed: int,
    *,
    distinct: int | None = None,
    text_share: float | None = None,
    text_ids: Collection[str] = (),
) -> list[str]:
    """``number`` item ids in the order in which they are to be used.

    Never right: left out, there is nothing to reinforce. Always right: at most ``keep_easy`` of the list, each once.
    The others are drawn by p(1 − p), which is largest at p = 1/2, and none comes again before all of them came as
    often. ``distinct`` bounds the set that is drawn from; ``text_share`` of it are of ``text_ids``, as far as these and
    the others reach. Deterministic by seed, in any order of the counts. Raises DataError where no item is in the
    middle.
    """
    if distinct is not None or text_share is not None:
        pass_counts = bounded(pass_counts, distinct or number, keep_easy, seed, text_share, text_ids)
    ordered = sorted(pass_counts, key=lambda count: count.item_id)
    middle = [count for count in ordered if 0 < count.right < count.samples]
    easy = [count for count in ordered if 0 < count.samples == count.right]
    if not middle:
        never = sum(count.right == 0 for count in ordered)
        raise DataError(
            f"of {len(ordered)} items {never} were never right, {len(easy)} always, none sometimes",
            "items that the checkpoint solves now and then",
            "train longer before RL where most were never right, take harder items where most were always right",
        )
    rng = random.Random(f"prompts/{seed}")
    easy_ids = [count.item_id for count in rng.sample(easy, min(len(easy), int(keep_easy * number)))]
    chosen: list[str] = []
    wanted = number - len(easy_ids)
    while len(chosen) < wanted:
        lap = draw_weighted(middle, wanted - len(chosen), rng)
        rng.shuffle(lap)  # within a lap the order must not go from the middle to the edges
        chosen.extend(lap)
    for item_id in easy_ids:
        chosen.insert(rng.randrange(len(chosen) + 1), item_id)
    return chosen


def bounded(
    pass_counts: Sequence[PassCount],
    distinct: int,
    keep_easy: float,
    seed: int,
    text_share: float | None,
    text_ids: Collection[str],
) -> list[PassCount]:
    """The pass counts of the RL set: ``distinct`` items at most, text and image by share where one is given."""
    rng, texts = random.Random(f"prompt set/{seed}"), frozenset(text_ids)
    if text_share is None:
        kept = set(choose_set(pass_counts, distinct, keep_easy, rng))
        return [count for count in pass_counts if count.item_id in kept]
    sides = [[c for c in pass_counts if (c.item_id in texts) is is_text] for is_text in (True, False)]
    wanted = round(distinct * text_share)
    few_text = min(wanted, len(choose_set(sides[0], wanted, keep_easy, rng)))
    images = choose_set(sides[1], distinct - few_text if text_share < 1 else 0, keep_easy, rng)
    more_text = distinct - len(images) if text_share > 0 else 0
    kept = {*images, *choose_set(sides[0], more_text, keep_easy, rng)}
    return [count for count in pass_counts if count.item_id in kept]
