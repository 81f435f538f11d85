"""The SFT mixture: examples by quota of target and family, with an honest report where a quota could not be met."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from residency.platform.recipe import MixtureConfig
from residency.platform.records import Example, Family, Target


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureReport:
    """What was wanted and what was got, by target and by family (examples).

    ``wanted_families`` is empty where the recipe takes the families as the data has them.
    ``notes`` says in words which quota could not be met.
    """

    total: int
    available: int
    wanted_targets: Mapping[str, int]
    got_targets: Mapping[str, int]
    wanted_families: Mapping[str, int]
    got_families: Mapping[str, int]
    notes: tuple[str, ...] = field(default=())


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers by share that sum to ``total`` (largest remainder; ties go to the first key)."""
    weight = sum(shares.values())
    if not weight:
        return dict.fromkeys(shares, 0)
    exact = {key: total * share / weight for key, share in shares.items()}
    whole = {key: int(value) for key, value in exact.items()}
    missing = total - sum(whole.values())
    for key in sorted(exact, key=lambda key: whole[key] - exact[key])[:missing]:
        whole[key] += 1
    return whole


def fill(total: int, shares: Mapping[str, float], available: Mapping[str, int]) -> dict[str, int]:
    """Like ``apportion``, but never above what is available: what one key lacks, the others give by their shares."""
    got = dict.fromkeys(shares, 0)
    open_shares = {key: share for key, share in shares.items() if share > 0}
    while open_shares and (left := total - sum(got.values())) > 0:
        for key, number in apportion(left, open_shares).items():
            got[key] = min(available[key], got[key] + number)
        open_shares = {key: share for key, share in open_shares.items() if got[key] < available[key]}
    return got


def pick(examples: Sequence[Example], number: int, rng: random.Random) -> list[Example]:
    """``number`` examples by chance, every item once before any comes twice."""
    shuffled = rng.sample(list(examples), len(examples))
    seen: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for index, example in enumerate(shuffled):
        turns.append((seen[example.item_id], index))
        seen[example.item_id] += 1
    return [shuffled[index] for _, index in sorted(turns)[:number]]


def shortfalls(name: str, wanted: Mapping[str, int], got: Mapping[str, int]) -> list[str]:
    return [
        f"{name} {key}: wanted {wanted[key]}, there were {got[key]}; the others filled the place"
        for key in wanted
        if got[key] < wanted[key]
    ]


def mix(examples: Iterable[Example], config: MixtureConfig, seed: int) -> tuple[list[Example], MixtureReport]:
    """The mixture in training order and its report; the same examples and seed give the same list in any input order.

    Targets are filled first, then families within each target. A target or family that the recipe leaves out or gives
    the share 0 is switched off, also as a filler. Where ``config.examples`` is absent all that is switched on is taken.
    """
    target_shares = {target: share for target in Target if (share := config.targets.get(target.value, 0.0)) > 0}
    family_shares = (
        dict.fromkeys(Family, 0.0)
        if config.families is None
        else {family: share for family in Family if (share := config.families.get(family.value, 0.0)) > 0}
    )
    pool = {example.id: example for example in examples}  # the same example from two sources counts once
    cells: dict[tuple[Target, Family], list[Example]] = {(t, f): [] for t in target_shares for f in family_shares}
    for _, example in sorted(pool.items()):
        if (example.target, example.family) in cells:
            cells[example.target, example.family].append(example)
    available = sum(map(len, cells.values()))
    total = available if config.examples is None else min(config.examples, available)

    rng = random.Random(f"mixture/{seed}")
    by_target = {t: sum(len(cells[t, f]) for f in family_shares) for t in target_shares}
    got_targets = fill(
        total, {t.value: s for t, s in target_shares.items()}, {t.value: n for t, n in by_target.items()}
    )
    chosen: list[Example] = []
    for target in target_shares:
        number = got_targets[target.value]
        if config.families is None:
            chosen += pick([e for f in family_shares for e in cells[target, f]], number, rng)
            continue
        sizes = {f.value: len(cells[target, f]) for f in family_shares}
        for family, part in fill(number, {f.value: s for f, s in family_shares.items()}, sizes).items():
            chosen += pick(cells[target, Family(family)], part, rng)
    rng.shuffle(chosen)

    wanted_total = config.examples if config.examples is not None else total
    wanted_targets = apportion(wanted_total, {t.value: s for t, s in target_shares.items()})
    wanted_families = (
        {} if config.families is None else apportion(wanted_total, {f.value: s for f, s in family_shares.items()})
    )
    families = Counter(example.family.value for example in chosen)
    got_families = {family.value: families[family.value] for family in family_shares}
    notes = shortfalls("target", wanted_targets, got_targets) + shortfalls("family", wanted_families, got_families)
    if config.examples is not None and total < config.examples:
        notes.append(f"wanted {config.examples} examples, there were {total}")
    return chosen, MixtureReport(
        total=total,
        available=available,
        wanted_targets=wanted_targets,
        got_targets=got_targets,
        wanted_families=wanted_families,
        got_families=got_families,
        notes=tuple(notes),
    )
