"""Which rank trains which rows, in how many micro-batches: every rank computes the same plan from the lengths alone."""

from collections.abc import Sequence

from residency.platform.errors import DataError

Plan = tuple[tuple[tuple[int, ...], ...], ...]  # [rank][micro-batch][row]


def _fill(order: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Rows in the given order (longest first) into bins of at most ``max_tokens``, padding to the longest included."""
    bins: list[list[int]] = []
    for row in order:
        # Longest first: the first row of a bin is what all others are padded to.
        if bins and lengths[bins[-1][0]] * (len(bins[-1]) + 1) <= max_tokens:
            bins[-1].append(row)
        else:
            bins.append([row])
    return bins


def plan_micro_batches(
    lengths: Sequence[int], num_ranks: int, max_tokens: int, rows: Sequence[int] | None = None
) -> Plan:
    """Deal rows to ranks: the same number of micro-batches each, of similar size, each within ``max_tokens``.

    Neighbours in length share a micro-batch, so that little is padding; the number of micro-batches is the smallest
    that fits, and the fill is then levelled. With fewer rows than ranks a rank gets an empty micro-batch, which it
    runs on a row of weight zero. Raises DataError for a row that is longer than ``max_tokens``.
    """
    chosen = list(range(len(lengths))) if rows is None else list(rows)
    order = sorted(chosen, key=lambda row: (-int(lengths[row]), row))
    if order and lengths[order[0]] > max_tokens:
        raise DataError(
            f"row {order[0]} has {lengths[order[0]]} tokens",
            f"at most {max_tokens}, the micro-batch of a rank",
            "raise learners.micro_batch_tokens in the profile, or shorten student.max_prompt_tokens or max_new_tokens",
        )
    rounds = max(1, -(-len(_fill(order, lengths, max_tokens)) // num_ranks))
    num_bins = rounds * num_ranks
    low, high = int(lengths[order[0]]) if order else 1, max_tokens
    while low < high:  # the smallest capacity that still fits in as many bins levels the work
        middle = (low + high) // 2
        if len(_fill(order, lengths, middle)) <= num_bins:
            high = middle
        else:
            low = middle + 1
    bins = _fill(order, lengths, high)
    bins += [[]] * (num_bins - len(bins))
    return tuple(tuple(tuple(bins[turn * num_ranks + rank]) for turn in range(rounds)) for rank in range(num_ranks))
