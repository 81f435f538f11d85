"""Shuffled images: every question is asked with another question's images, to see what its own are worth."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from residency.platform.records import Item

Media = tuple[str, ...]


def shuffled_media(items: Sequence[Item], seed: int) -> dict[str, Media]:
    """Item id → the images of another item: as many, and none that the item has itself. The same for the same seed.

    Items exchange their images: each set of images is used once, and by another patient (cluster), unless more than
    half of the items hang together; where one image is that of more than half, the others' are used several times. An
    item without images, or with nothing to exchange them for, is not in the mapping (see ``unshuffled``).
    """
    by_count: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        if item.media:
            by_count[len(item.media)].append(item)
    found: dict[str, Media] = {}
    for count in sorted(by_count):
        found |= _derange(by_count[count], random.Random(f"{seed}/{count}"))
    return {item.id: found[item.id] for item in items if item.id in found}


def unshuffled(items: Sequence[Item], shuffled: Mapping[str, Media]) -> tuple[str, ...]:
    """Ids of the items with images that no other item's images could replace: to be left out on both sides."""
    return tuple(item.id for item in items if item.media and item.id not in shuffled)


def _derange(items: Sequence[Item], generator: random.Random) -> dict[str, Media]:
    """Items in blocks of what hangs together (patient, image), largest block first; each takes from the item that
    stands one largest block further on, so from another block if no block is more than half of all."""
    blocks = _blocks(items, lambda item: (f"cluster {item.cluster}", *item.media))
    if 2 * max(map(len, blocks)) > len(items):
        blocks = _blocks(items, lambda item: item.media)
    generator.shuffle(blocks)
    blocks.sort(key=len, reverse=True)
    row = [item for block in blocks for item in generator.sample(block, len(block))]
    step = len(blocks[0])
    found: dict[str, Media] = {}
    late: list[tuple[int, Item]] = []
    for place, item in enumerate(row):
        donor = row[(place + step) % len(row)]
        if _disjoint(item, donor):
            found[item.id] = donor.media
        else:
            late.append((place, item))
    for place, item in late:
        donors = (row[(place + step + further) % len(row)] for further in range(1, len(row)))
        donor = next((donor for donor in donors if _disjoint(item, donor)), None)
        if donor is not None:
            found[item.id] = donor.media
    return found


def _disjoint(item: Item, donor: Item) -> bool:
    return not set(item.media) & set(donor.media)


def _blocks(items: Sequence[Item], keys_of: Callable[[Item], Iterable[str]]) -> list[list[Item]]:
    """Items that share a key, directly or through others, together; in the order of the items."""
    parent = list(range(len(items)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, item in enumerate(items):
        for key in keys_of(item):
            parent[root(index)] = root(first.setdefault(key, index))
    blocks: dict[int, list[Item]] = defaultdict(list)
    for index, item in enumerate(items):
        blocks[root(index)].append(item)
    return list(blocks.values())
