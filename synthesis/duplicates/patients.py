"""No patient on both sides of a split: whoever is in a stricter split has no items in a laxer one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from residency.platform.errors import DataError
from residency.platform.records import Item, Split

STRICTNESS = {Split.HELD_OUT: 0, Split.TUNE: 1, Split.TRAIN: 2}


@dataclass(slots=True)
class PatientSplit:
    """Iterating gives the items that may stay; ``removed`` counts the others by (split, stricter split) as they pass.

    Removed, not moved: a published test split keeps its n.
    """

    items: Iterable[Item]
    strictest: Mapping[str, Split]
    removed: Counter[tuple[Split, Split]] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[Item]:
        for item in self.items:
            wanted = item.split if item.patient_id is None else self.strictest.get(item.patient_id, item.split)
            if STRICTNESS[wanted] < STRICTNESS[item.split]:
                self.removed[item.split, wanted] += 1
            else:
                yield item


def strictest_splits(items: Iterable[Item]) -> dict[str, Split]:
    """Each patient's strictest split (held_out, tune, train); memory grows with patients, not with items."""
    found: dict[str, Split] = {}
    for item in items:
        if item.patient_id is not None:
            known = found.get(item.patient_id)
            if known is None or STRICTNESS[item.split] < STRICTNESS[known]:
                found[item.patient_id] = item.split
    return found


def enforce_patient_split(items: Iterable[Item], elsewhere: Iterable[Item] = ()) -> PatientSplit:
    """The items without those whose patient lies in a stricter split, here or in ``elsewhere`` (the benchmarks' items).

    ``items`` are read twice, so they must be a list or something that can be iterated again; raises DataError else.
    """
    if iter(items) is items:
        raise DataError("a stream that can be read once", "items that can be read twice", "give a list, or a reader")
    strictest = strictest_splits(items)
    for patient, split in strictest_splits(elsewhere).items():
        known = strictest.get(patient)
        if known is None or STRICTNESS[split] < STRICTNESS[known]:
            strictest[patient] = split
    return PatientSplit(items, strictest)
