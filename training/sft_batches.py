"""Which rows an SFT step trains on, by (seed, step) alone: each row once an epoch, all batches equally large."""

import random
from collections.abc import Iterator, Sequence

MEGABATCH = 50  # batches that are sorted by length together: enough to find rows of like length
MEGABATCHES = 4  # an epoch, at least: with one alone every epoch would have the same batches


def batches(num_rows: int, batch_size: int, seed: int, first: int = 0) -> Iterator[list[int]]:
    """Row numbers of one batch after the other from step ``first`` on, epoch after epoch, each epoch shuffled.

    The last rows of an epoch and the first of the next share a batch, so that all batches are equally large.
    """
    rng, queue, step = random.Random(f"batches/{seed}"), list[int](), 0
    while True:
        while len(queue) < batch_size:
            epoch = list(range(num_rows))
            rng.shuffle(epoch)
            queue += epoch
        if step >= first:
            yield queue[:batch_size]
        queue, step = queue[batch_size:], step + 1


def length_grouped_batches(lengths: Sequence[int], batch_size: int, seed: int, first: int = 0) -> Iterator[list[int]]:
    """As ``batches``, but rows of like length (tokens) share a batch: less is padding, and ranks wait less.

    Each shuffled epoch is cut into megabatches of at most 50 batches, at least four of them; each is sorted by length
    and dealt into batches; then the order of all the epoch's batches is shuffled. Only the batch that two epochs share
    is of mixed lengths.
    """
    rng, carried, step = random.Random(f"length-grouped/{seed}"), list[int](), 0
    while True:
        epoch = list(range(len(lengths)))
        rng.shuffle(epoch)
        if carried:
            missing = batch_size - len(carried)
            carried, epoch = carried + epoch[:missing], epoch[missing:]
            if len(carried) < batch_size:  # an epoch smaller than what is missing
                continue
            if step >= first:
                yield carried
            step += 1
        whole = len(epoch) // batch_size * batch_size
        carried = epoch[whole:]
        dealt: list[list[int]] = []
        rows_together = max(1, min(MEGABATCH, whole // batch_size // MEGABATCHES)) * batch_size
        for start in range(0, whole, rows_together):
            mega = epoch[start : min(start + rows_together, whole)]
            mega.sort(key=lambda row: lengths[row])  # stable: rows of one length stay in their shuffled order
            dealt += [mega[place : place + batch_size] for place in range(0, len(mega), batch_size)]
        rng.shuffle(dealt)
        for batch in dealt:
            if step >= first:
                yield batch
            step += 1


def padding_share(lengths: Sequence[int], padded_together: Sequence[Sequence[int]]) -> float:
    """Of all places in these sets of rows, each padded to its longest, the share that holds no token."""
    places = sum(len(rows) * max(lengths[row] for row in rows) for rows in padded_together if rows)
    tokens = sum(lengths[row] for rows in padded_together for row in rows)
    return 1 - tokens / places if places else 0.0
